package filestore

import (
	"strconv"
	"strings"
	"unique"
)

// One HELP text stands for a family in the whole spool: node_exporter drops a
// family whose text differs between two files, or is missing in one. So a push
// is stored with the text that the spool has. What the pusher wanted instead
// is kept in a comment of the file,
//
//	# promspool:help SINCE NAME TEXT
//
// with the time since when it wanted that, so that a text which its pushers
// have changed gets through in the end: see [Store.SettleHelp].

// want is a HELP text that a group would have for a family.
type want struct {
	since float64 // Unix time of the first of the pushes in a row that had it
	text  string
}

const helpDirective = "help"

func parseWants(directives []directive) map[string]want {
	var wants map[string]want
	for _, d := range directives {
		if d.key != helpDirective {
			continue
		}
		since, rest, _ := strings.Cut(d.text, " ")
		t, err := strconv.ParseFloat(since, 64)
		p := parser{utf8Names: true, rest: rest}
		if err != nil || rest == "" {
			continue
		}
		name, err := p.metricName()
		if err != nil {
			continue
		}
		p.rest = strings.TrimPrefix(p.rest, " ")
		text, err := p.unescapeHelp()
		if err != nil {
			continue
		}
		if wants == nil {
			wants = make(map[string]want)
		}
		wants[strings.Clone(name)] = want{t, strings.Clone(text)} // the file's bytes are not kept
	}
	return wants
}

func appendWants(b []byte, wants map[string]want) []byte {
	if len(wants) == 0 {
		return b
	}
	for _, name := range sortedKeys(wants) {
		b = append(b, directivePrefix+helpDirective+" "...)
		b = appendValue(b, wants[name].since)
		b = append(b, ' ')
		b = appendName(b, name)
		b = append(b, ' ')
		b = appendHelp(b, wants[name].text)
		b = append(b, '\n')
	}
	return b
}

// helpFor returns the text that a group's part of a family is stored with: that
// of the spool if other files have the family, else its own.
func (m *merger) helpFor(name, own string, had bool) string {
	f := m.fams[name]
	if f == nil {
		return own
	}
	others := f.files
	if had {
		others--
	}
	if others == 0 {
		return own
	}
	return f.help
}

// agreeOnHelp gives the parts of a group the texts of the spool and returns
// what the group would have instead. old is the group's file before, or nil.
func (s *Store) agreeOnHelp(parts []part, old *File, now float64) map[string]want {
	var wants map[string]want
	v := s.View()
	var key family
	for i := range parts {
		d := parts[i].desc.Value()
		own, since := d.help, now
		had := false
		var before want
		var stored desc
		if old != nil {
			stored, had = old.has(d.name)
			before = old.wants[d.name]
		}
		if parts[i].kept && before.text != "" {
			own, since = before.text, before.since // what stays keeps its wish
		} else if before.text == own {
			since = before.since
		}
		help := own
		// Nearly always it is the text that is served anyway.
		if key.name = d.name; !v.hasHelp(&key, own) {
			s.mu.Lock()
			help = s.merge.helpFor(d.name, own, had)
			s.mu.Unlock()
		}
		if s.opts.Only != nil && had {
			help = stored.help // the others' texts are not known, but that was one of them
		}
		if help != d.help {
			d.help = help
			parts[i].desc = unique.Make(d)
		}
		if help != own && own != "" {
			if wants == nil {
				wants = make(map[string]want)
			}
			wants[d.name] = want{since, own}
		}
	}
	return wants
}

// helpAgreed reports whether the content still has the texts of the spool.
func (m *merger) helpAgreed(c *content, old *File) bool {
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		own := d.help
		if w, ok := c.file.wants[d.name]; ok {
			own = w.text
		}
		had := false
		if old != nil {
			_, had = old.has(d.name)
		}
		if m.helpFor(d.name, own, had) != d.help {
			return false
		}
	}
	return true
}
