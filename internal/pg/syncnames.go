package pg

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// SyncMethod says how synchronous standbys are chosen among those named.
type SyncMethod string

// The methods of synchronous_standby_names. A list without either means SyncFirst.
const (
	SyncAny   SyncMethod = "ANY"   // any K of them
	SyncFirst SyncMethod = "FIRST" // the K that are named first, of those connected
)

// SyncStandbys is what synchronous_standby_names asks for: a commit waits for K of the standbys that are named. The zero
// value is the empty setting, under which no commit waits.
type SyncStandbys struct {
	Method SyncMethod
	K      int      // at least 1; may exceed the number of names
	Names  []string // distinct, in lower case, in the setting's order
	Star   bool     // "*" is among the names: any standby matches
}

// ParseSyncStandbyNames reads the setting as the server does (src/backend/replication/syncrep_gram.y, syncrep_scanner.l, and
// check_synchronous_standby_names): "FIRST 2 (a, b)", "ANY 2 (a, b, c)", "2 (a, b)", "a, b", where a name is an identifier, a
// number, "*", or anything in double quotes. A quoted "*" is a "*" too.
func ParseSyncStandbyNames(setting string) (SyncStandbys, error) {
	if setting == "" {
		return SyncStandbys{}, nil
	}
	tokens, err := scanSyncNames(setting)
	if err != nil {
		return SyncStandbys{}, err
	}
	p := syncParser{tokens: tokens}
	return p.parse()
}

// Empty reports whether no commit waits for any standby.
func (s SyncStandbys) Empty() bool { return s.K == 0 }

// N returns how many standbys are named. Where Star is set there may be any number of others.
func (s SyncStandbys) N() int { return len(s.Names) }

// Contains reports whether a standby with this application_name matches.
func (s SyncStandbys) Contains(name string) bool {
	return s.Star || slices.Contains(s.Names, lowerASCII(name))
}

// Required returns how many of the named standbys must be asked to meet every K of them: n-k+1. With Star no number is
// enough, and it returns math.MaxInt.
func (s SyncStandbys) Required() int {
	if s.Star {
		return math.MaxInt
	}
	return max(1, len(s.Names)-s.K+1)
}

// add takes a name in. Names count without case (pg_strcasecmp), so that "a, A" names one standby.
func (s *SyncStandbys) add(name string) {
	name = lowerASCII(name)
	switch {
	case name == "*":
		s.Star = true
	case !slices.Contains(s.Names, name):
		s.Names = append(s.Names, name)
	}
}

// QuoteSyncName returns a name as it must be written in synchronous_standby_names. Node names with a leading digit, or that are
// keywords, need quotes. No quotes make a plain name of "*".
func QuoteSyncName(name string) string {
	word, rest := cutIdentifier(name)
	if word != "" && rest == "" && keyword(word) == tokenName {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// syncParser is the grammar: one token of look-ahead decides.
type syncParser struct {
	tokens []syncToken // ends with tokenEnd
	out    SyncStandbys
}

func (p *syncParser) parse() (SyncStandbys, error) {
	p.out = SyncStandbys{Method: SyncFirst, K: 1}
	counted := true
	switch {
	case p.tokens[0].kind == tokenAny:
		p.out.Method = SyncAny
		p.next()
	case p.tokens[0].kind == tokenFirst:
		p.next()
	default:
		counted = p.tokens[0].kind == tokenNumber && p.tokens[1].kind == tokenOpen
	}
	if err := p.list(counted); err != nil {
		return SyncStandbys{}, err
	}
	if err := p.expect(tokenEnd); err != nil {
		return SyncStandbys{}, err
	}
	return p.out, nil
}

// list reads the names, with the number before them and the parentheses around them if they are counted.
func (p *syncParser) list(counted bool) error {
	if !counted {
		return p.names()
	}
	if err := p.count(); err != nil {
		return err
	}
	if err := p.expect(tokenOpen); err != nil {
		return err
	}
	if err := p.names(); err != nil {
		return err
	}
	return p.expect(tokenClose)
}

func (p *syncParser) count() error {
	text := p.tokens[0].text
	if err := p.expect(tokenNumber); err != nil {
		return err
	}
	k, err := strconv.ParseInt(text, 10, 32)
	if err != nil || k < 1 {
		return fmt.Errorf("number of synchronous standbys (%s) must be greater than zero, and have 31 bits", text)
	}
	p.out.K = int(k)
	return nil
}

func (p *syncParser) names() error {
	for {
		t := p.tokens[0]
		if t.kind != tokenName && t.kind != tokenNumber {
			return t.unexpected()
		}
		p.out.add(t.text)
		p.next()
		if p.tokens[0].kind != tokenComma {
			return nil
		}
		p.next()
	}
}

func (p *syncParser) expect(kind tokenKind) error {
	if t := p.tokens[0]; t.kind != kind {
		return t.unexpected()
	}
	p.next()
	return nil
}

// next drops the first token; the last one, tokenEnd, stays.
func (p *syncParser) next() {
	if len(p.tokens) > 1 {
		p.tokens = p.tokens[1:]
	}
}
