package exporter

import (
	"encoding/json"
	"time"

	"github.com/promspool/promspool/filestore/record"
)

// FileJSON returns the element of /api/v1/files for a file, given what of it
// contradicts other files.
func FileJSON(f *record.File, conflicts []*record.Conflict, now time.Time) json.RawMessage {
	b, err := json.Marshal(newFileEntry(f, conflicts, now))
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return b
}
