package oip

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// MaxText is how many bytes a name, an id or a parameter may have.
const MaxText = 4 << 10

const (
	maxFields = 64 // of one JSON object
	maxQuoted = 32 // bytes of a request that an error repeats
	maxRank   = 64 // dimensions of a shape
)

// scanner reads JSON front to back, without a tree: encoding/json would make a
// value of its own of each of a hundred thousand numbers. It is strict: a
// field that comes twice, and whatever RFC 8259 does not know, is refused.
type scanner struct {
	text  []byte
	at    int
	depth int // how deep it may still go
}

func (s *scanner) fail(format string, args ...any) error {
	return bad("%s, at byte %d", fmt.Sprintf(format, args...), s.at)
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// peek is the next byte that is no space; 0 at the end.
func (s *scanner) peek() byte {
	s.at = skipSpace(s.text, s.at)
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// next takes the byte c, if it comes next.
func (s *scanner) next(c byte) bool {
	if s.peek() != c || s.at == len(s.text) {
		return false
	}
	s.at++
	return true
}

// here quotes what comes next, cut short.
func (s *scanner) here() string {
	if s.peek(); s.at == len(s.text) {
		return "the end"
	}
	rest := s.text[s.at:]
	end := slices.IndexFunc(rest[1:], func(r byte) bool { return r <= ' ' || r == ',' || r == ']' || r == '}' || r == '[' || r == '{' }) + 1
	if end == 0 {
		end = len(rest)
	}
	return fmt.Sprintf("%.*q", maxQuoted, rest[:min(end, 4*maxQuoted)])
}

// enter opens an object or an array.
func (s *scanner) enter(open byte, what string) error {
	if !s.next(open) {
		kind := "object"
		if open == '[' {
			kind = "array"
		}
		return s.fail("%s is no %s: %s", what, kind, s.here())
	}
	if s.depth--; s.depth < 0 {
		return s.fail("%s is nested too deep", what)
	}
	return nil
}

// more tells whether another element follows in an array or an object that
// close ends, and takes the comma or the end.
func (s *scanner) more(first bool, close byte, what string) (bool, error) {
	if s.next(close) {
		s.depth++
		return false, nil
	}
	if !first && !s.next(',') {
		return false, s.fail("%s: want , or %c, found %s", what, close, s.here())
	}
	return true, nil
}

// object reads an object; field reads the value of each of its fields.
func (s *scanner) object(what string, field func(key string) error) error {
	if err := s.enter('{', what); err != nil {
		return err
	}
	var seen []string
	for {
		more, err := s.more(len(seen) == 0, '}', what)
		if err != nil || !more {
			return err
		}
		key, err := s.string("a field's name in " + what)
		if err != nil {
			return err
		}
		if slices.Contains(seen, key) {
			return s.fail("%s has the field %q twice", what, key)
		}
		if seen = append(seen, key); len(seen) > maxFields {
			return s.fail("%s has more than %d fields", what, maxFields)
		}
		if !s.next(':') {
			return s.fail("%s: want : after %q, found %s", what, key, s.here())
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

// array reads an array of at most limit elements; element reads each.
func (s *scanner) array(what string, limit int, element func() error) error {
	if err := s.enter('[', what); err != nil {
		return err
	}
	for n := 0; ; n++ {
		more, err := s.more(n == 0, ']', what)
		if err != nil || !more {
			return err
		}
		if n == limit {
			return s.fail("%s has more than %d elements", what, limit)
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// string reads a short string.
func (s *scanner) string(what string) (string, error) {
	text, err := s.bytes(what)
	if err != nil {
		return "", err
	}
	if len(text) > MaxText {
		return "", s.fail("%s is longer than %d bytes", what, MaxText)
	}
	return string(text), nil
}

// bytes reads a string; what it gives may be a part of the text.
func (s *scanner) bytes(what string) ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.fail("%s is no string: %s", what, s.here())
	}
	start, escaped := s.at, false
	for i := start + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			return s.unquote(what, s.text[start:i+1], escaped)
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			s.at = i
			return nil, s.fail("%s has a control character", what)
		}
	}
	s.at = len(s.text)
	return nil, s.fail("%s does not end", what)
}

func (s *scanner) unquote(what string, quoted []byte, escaped bool) ([]byte, error) {
	if !utf8.Valid(quoted) {
		return nil, s.fail("%s is no UTF-8", what)
	}
	if !escaped {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, s.fail("%s is no JSON string: %v", what, err)
	}
	return []byte(text), nil
}

// number reads a number.
func (s *scanner) number(what string) (d decimal, at int, err error) {
	s.peek()
	at = s.at
	d, ok := scanNumber(s.text, at)
	if !ok {
		return d, at, s.fail("%s is no number: %s", what, s.here())
	}
	s.at = d.end
	return d, at, nil
}

// word takes true, false or null.
func (s *scanner) word(w string) bool {
	s.peek()
	if rest := s.text[s.at:]; len(rest) < len(w) || string(rest[:len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

// skip reads a value of any kind.
func (s *scanner) skip(what string) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(what, s.skip)
	case c == '[':
		return s.array(what, len(s.text), func() error { return s.skip(what) })
	case c == '"':
		_, err := s.bytes(what)
		return err
	case c == '-' || c-'0' <= 9:
		_, _, err := s.number(what)
		return err
	case s.word("true"), s.word("false"), s.word("null"):
		return nil
	}
	return s.fail("%s is no JSON value: %s", what, s.here())
}

// values reads an object whose values are strings, numbers (int64, uint64
// or float64, the first that holds it) and booleans. Clients that write all
// their fields write null for what they leave out: it counts as left out.
func (s *scanner) values(what string) (map[string]any, error) {
	values := map[string]any{}
	if s.word("null") {
		return values, nil
	}
	err := s.object(what, func(key string) (err error) {
		if !s.word("null") {
			values[key], err = s.scalar(fmt.Sprintf("%s: %q", what, key))
		}
		return err
	})
	return values, err
}

func (s *scanner) scalar(what string) (any, error) {
	switch c := s.peek(); {
	case c == '"':
		return s.string(what)
	case s.word("true"):
		return true, nil
	case s.word("false"):
		return false, nil
	case c != '-' && c-'0' > 9:
		return nil, s.fail("%s is neither a string nor a number nor a boolean: %s", what, s.here())
	}
	d, at, err := s.number(what)
	if err != nil {
		return nil, err
	}
	if v, ok := d.signed(s.text, at, 64); ok {
		return v, nil
	}
	if v, ok := d.unsigned(s.text, at, 64); ok {
		return v, nil
	}
	if v, ok := d.float64(s.text, at); ok {
		return v, nil
	}
	return nil, s.fail("%s is out of range", what)
}

// shape reads the dimensions of a tensor.
func (s *scanner) shape(what string) ([]int64, error) {
	shape := []int64{} // [] is a scalar's, not a missing one
	err := s.array(what, maxRank, func() error {
		d, at, err := s.number(what)
		if err != nil {
			return err
		}
		v, ok := d.signed(s.text, at, 64)
		if !ok || v < 0 {
			return s.fail("%s: %q is no dimension: want an integer from 0 on", what, s.text[at:d.end])
		}
		shape = append(shape, v)
		return nil
	})
	return shape, err
}
