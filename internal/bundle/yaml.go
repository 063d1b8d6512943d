package bundle

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// A manifest is a small file. What these bounds keep out costs a YAML reader
// memory, stack or time out of all proportion to its bytes.
const (
	maxManifest = 128 << 10 // bytes
	maxLine     = 4 << 10   // bytes
	maxNesting  = 16        // of mappings and lists; a manifest has 4
	maxIndent   = 64        // columns before a line of block style
)

// checkYAML refuses what the decoder should not be given: too many bytes, too
// much depth, and anchors and aliases, by which a kilobyte becomes gigabytes.
func checkYAML(data []byte) error {
	if len(data) > maxManifest {
		return fmt.Errorf("%d bytes: at most %d are read", len(data), maxManifest)
	}
	for line := range bytes.Lines(data) {
		if len(line) > maxLine { // what the library does with a line is quadratic
			return fmt.Errorf("a line of %d bytes: at most %d are read", len(line), maxLine)
		}
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return fmt.Errorf("it holds a zero byte: not a YAML file")
	}
	line, flow, opened := 0, 0, 0 // opened: levels that this line opens, one behind the other
	for i, t := range lexer.Tokenize(string(data)) {
		if at := t.Position; at.Line != line {
			line, opened = at.Line, 0
			if flow == 0 && at.Column > maxIndent {
				return fmt.Errorf("line %d: indented more than %d columns", line, maxIndent)
			}
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return fmt.Errorf("line %d: anchors and aliases are not read: write out what they stand for", line)
		case token.DocumentHeaderType, token.DocumentEndType:
			if i > 0 { // the decoder would not look at what follows
				return fmt.Errorf("line %d: a second document: want one document", line)
			}
		case token.TagType:
			return fmt.Errorf("line %d: tags are not read: remove %s", line, t.Value)
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			opened++
		case token.MappingValueType:
			if flow == 0 {
				opened++
			}
		}
		if flow > maxNesting || opened > maxNesting {
			return fmt.Errorf("line %d: nested more than %d deep", line, maxNesting)
		}
	}
	return nil
}
