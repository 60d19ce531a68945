package pg

import (
	"errors"
	"fmt"
	"strings"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenNumber
	tokenAny
	tokenFirst
	tokenComma
	tokenOpen
	tokenClose
)

type syncToken struct {
	kind tokenKind
	text string // a name without its quotes; as written for the others
}

func (t syncToken) unexpected() error {
	if t.kind == tokenEnd {
		return errors.New("syntax error at end of input")
	}
	return fmt.Errorf("syntax error at or near %q", t.text)
}

const (
	syncSpace  = " \t\n\r\f\v"
	syncDigits = "0123456789"
)

// scanSyncNames cuts the setting into tokens; the last one is tokenEnd.
func scanSyncNames(s string) ([]syncToken, error) {
	var tokens []syncToken
	for {
		s = strings.TrimLeft(s, syncSpace)
		if s == "" {
			return append(tokens, syncToken{kind: tokenEnd}), nil
		}
		t, rest, err := scanSyncToken(s)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		s = rest
	}
}

// scanSyncToken cuts the first token off s, which does not begin with space.
func scanSyncToken(s string) (t syncToken, rest string, err error) {
	if word, rest := cutIdentifier(s); word != "" {
		return syncToken{keyword(word), word}, rest, nil
	}
	if rest := strings.TrimLeft(s, syncDigits); len(rest) < len(s) {
		return syncToken{tokenNumber, s[:len(s)-len(rest)]}, rest, nil
	}
	switch s[0] {
	case '"':
		return scanQuoted(s[1:])
	case '*':
		return syncToken{tokenName, "*"}, s[1:], nil
	case ',':
		return syncToken{tokenComma, ","}, s[1:], nil
	case '(':
		return syncToken{tokenOpen, "("}, s[1:], nil
	case ')':
		return syncToken{tokenClose, ")"}, s[1:], nil
	}
	return syncToken{}, "", fmt.Errorf("syntax error at or near %q", s[:1])
}

// scanQuoted reads a quoted name from behind its opening quote. Two quotes within stand for one.
func scanQuoted(s string) (t syncToken, rest string, err error) {
	var name strings.Builder
	for {
		part, after, closed := strings.Cut(s, `"`)
		if !closed {
			return syncToken{}, "", errors.New("unterminated quoted identifier at end of input")
		}
		name.WriteString(part)
		if !strings.HasPrefix(after, `"`) {
			return syncToken{tokenName, name.String()}, after, nil
		}
		name.WriteByte('"')
		s = after[1:]
	}
}

// cutIdentifier cuts a name that needs no quotes off the front of s; empty if there is none.
func cutIdentifier(s string) (word, rest string) {
	n := 0
	for n < len(s) && (startsIdentifier(s[n]) || n > 0 && (isDigit(s[n]) || s[n] == '$')) {
		n++
	}
	return s[:n], s[n:]
}

func startsIdentifier(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// keyword tells the two words that are no names unless they are quoted.
func keyword(word string) tokenKind {
	switch lowerASCII(word) {
	case "any":
		return tokenAny
	case "first":
		return tokenFirst
	}
	return tokenName
}

// lowerASCII leaves all other bytes as they are, whatever their encoding.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
