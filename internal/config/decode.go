package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// A decoder fills a Config from the syntax tree. The library's own decoder would stop at the first
// unknown key, knows no place for a bad duration, and takes 007 for 7.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	at       map[string]position // of each key that is set, by its path
	written  map[string]string   // the text of each scalar, as it stands in the file
	problems []Problem
}

// decode fills v, a pointer to a struct, from the body of a document; nil leaves everything as it is.
func (d *decoder) decode(body ast.Node, v any) {
	if body != nil {
		d.value(body, reflect.ValueOf(v).Elem(), "")
	}
}

// value fills v from a node; path names the key in messages.
func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	switch n.Type() {
	case ast.NullType: // "key:" and "key: null" mean the default
		return
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.fail(positionOf(n), "%s: anchors, aliases and tags are not supported here; write the value out", orFile(path))
		return
	}
	if path != "" {
		d.at[path] = positionOf(n)
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.fail(positionOf(n), "%s has to be a mapping with the keys %s", orFile(path), strings.Join(keysOf(v.Type()), ", "))
		return
	}
	for _, entry := range m.Values {
		key := keyText(entry.Key)
		field, ok := fieldOf(v, key)
		if !ok {
			d.unknownKey(entry.Key, key, v.Type(), path)
			continue
		}
		d.value(entry.Value, field, join(path, key))
	}
}

func (d *decoder) unknownKey(n ast.Node, key string, t reflect.Type, path string) {
	known := keysOf(t)
	hint := "known are " + strings.Join(known, ", ")
	if near, ok := nearest(key, known); ok {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	d.fail(positionOf(n), "unknown key %q; %s", join(path, key), hint)
}

func (d *decoder) sequence(n ast.Node, v reflect.Value, path string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(positionOf(n), "%s has to be a list", path)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		d.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	text, ok := scalarText(n)
	if !ok {
		d.fail(positionOf(n), "%s has to be a single value", path)
		return
	}
	d.written[path] = text
	expanded, err := expand(text, d.env)
	if err != nil {
		d.fail(positionOf(n), "%s: %v", path, err)
		return
	}
	if err := setScalar(v, expanded); err != nil {
		// The text as it stands in the file: what a variable holds may be a secret.
		d.fail(positionOf(n), "%s has to be %v, not %q", path, err, text)
	}
}

// setScalar parses text into v. The error says what v takes.
func setScalar(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
		return nil
	case *time.Duration:
		return parseInto(p, text, time.ParseDuration, "a duration such as 500ms, 30s or 5m")
	case *Bytes:
		return parseInto(p, text, ParseBytes, "a size such as 512MiB or 1GiB")
	case *int:
		return parseInto(p, text, strconv.Atoi, "a whole number")
	case *bool:
		return parseInto(p, text, strconv.ParseBool, "true or false")
	case *float64:
		return parseInto(p, text, parseFloat, "a number")
	}
	panic(fmt.Sprintf("config: no way to read a %s", v.Type()))
}

func parseInto[T any](p *T, text string, parse func(string) (T, error), what string) error {
	x, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s", what)
	}
	*p = x
	return nil
}

func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// scalarText returns a scalar as it is written, without its quotes.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case ast.ScalarNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func keyText(n ast.MapKeyNode) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	return n.GetToken().Value
}

// fieldOf finds the field of a struct by its yaml tag.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if key != "" && v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if key := f.Tag.Get("yaml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
