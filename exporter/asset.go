package exporter

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"
)

//go:embed ui
var ui embed.FS

// assetTypes has the types of the files of the page by their extension. Templates are
// not served.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// An asset is a file of the page.
type asset struct {
	mime   string
	plain  []byte
	packed []byte // with gzip; nil if that is not smaller
	tag    string // identifies the content
}

// assets returns the files of the page by name. They are compressed once, for the first
// request.
var assets = sync.OnceValue(func() map[string]*asset {
	entries, err := ui.ReadDir("ui")
	if err != nil {
		panic(err) // it is embedded
	}
	all := map[string]*asset{}
	for _, entry := range entries {
		mime := assetTypes[path.Ext(entry.Name())]
		if mime == "" {
			continue
		}
		plain, err := ui.ReadFile("ui/" + entry.Name())
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(plain)
		a := &asset{mime: mime, plain: plain, tag: hex.EncodeToString(sum[:8])}
		var b bytes.Buffer // writes to it never fail
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		_, _ = z.Write(plain)
		_ = z.Close()
		if b.Len() < len(plain) {
			a.packed = b.Bytes()
		}
		all[entry.Name()] = a
	}
	return all
})

func (e *Exporter) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	a := assets()[name]
	if a == nil {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.mime)
	h.Set("Cache-Control", "no-cache") // stored, and validated by its ETag
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Vary", "Accept-Encoding")
	content, tag := a.plain, a.tag
	if a.packed != nil && negotiateCoding(r.Header) == gzipped {
		content, tag = a.packed, a.tag+"-gzip"
		h.Set("Content-Encoding", string(gzipped))
		h.Set("Content-Length", strconv.Itoa(len(content))) // ServeContent omits it for a coding
		r = r.Clone(r.Context())
		r.Header.Del("Range") // of the compressed bytes, which no browser asks for
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(emptyOnConflict{w}, r, name, time.Time{}, bytes.NewReader(content))
}

// emptyOnConflict deletes the headers of the content from a response with the status 412.
// ServeContent does that for other responses without content only.
type emptyOnConflict struct{ http.ResponseWriter }

func (w emptyOnConflict) WriteHeader(code int) {
	if code == http.StatusPreconditionFailed {
		for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Type"} {
			w.Header().Del(name)
		}
	}
	w.ResponseWriter.WriteHeader(code)
}
