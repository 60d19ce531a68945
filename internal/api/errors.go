package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A Kind is a class of errors that a program can branch on. On the wire it is the problem type
// "urn:sluice:problem:KIND" (RFC 9457, section 3.1.1); package client makes the same error of it again.
type Kind string

// The kinds of errors.
const (
	KindInvalid      Kind = "invalid"       // the request itself is wrong
	KindUnauthorized Kind = "unauthorized"  // no token, or not one for this
	KindForbidden    Kind = "forbidden"     // not for whoever asks
	KindNotFound     Kind = "not-found"     // no such tenant, timeline or route
	KindExists       Kind = "exists"        // there already
	KindConflict     Kind = "conflict"      // not in this state
	KindRefused      Kind = "refused"       // would lose data, and nobody accepted that
	KindAbsent       Kind = "absent"        // this WAL file does not exist, for certain
	KindUnknown      Kind = "unknown"       // whether this WAL file exists could not be found out
	KindUnsealed     Kind = "unsealed"      // this WAL is tail, and handed out only once its TLI is sealed
	KindUnavailable  Kind = "unavailable"   // not now: starting, broken, a source that is down
	KindShuttingDown Kind = "shutting-down" // the timeline, or the node

	KindNotImplemented Kind = "not-implemented"    // not in this version
	KindMethod         Kind = "method-not-allowed" // there is such a route, with other methods
	KindTooLarge       Kind = "too-large"          // the body
	KindInternal       Kind = "internal"           // our fault
)

const problemPrefix = "urn:sluice:problem:"

// URI returns the problem type.
func (k Kind) URI() string { return problemPrefix + string(k) }

// KindFromURI is the inverse of URI; a type that is not ours is KindInternal.
func KindFromURI(uri string) Kind {
	name, ok := strings.CutPrefix(uri, problemPrefix)
	if !ok {
		return KindInternal
	}
	return Kind(name)
}

// A kindRule says how a kind is answered.
type kindRule struct {
	status     int
	title      string
	retryAfter int // seconds; 0: trying the same again is no help, or nobody knows when
}

var kindRules = map[Kind]kindRule{
	KindInvalid:      {http.StatusBadRequest, "The request is not valid", 0},
	KindUnauthorized: {http.StatusUnauthorized, "A token is needed", 0},
	KindForbidden:    {http.StatusForbidden, "Not allowed", 0},
	KindNotFound:     {http.StatusNotFound, "There is no such thing", 0},
	KindExists:       {http.StatusConflict, "It exists already", 0},
	KindConflict:     {http.StatusConflict, "Not possible in this state", 0},
	KindRefused:      {http.StatusConflict, "Refused: it could lose data", 0},
	KindAbsent:       {http.StatusNotFound, "The file does not exist", 0},
	KindUnknown:      {http.StatusServiceUnavailable, "Could not find out whether the file exists", 5},
	KindUnsealed:     {http.StatusServiceUnavailable, "Not handed out before its TLI is sealed", 0},
	KindUnavailable:  {http.StatusServiceUnavailable, "Not available now", 5},
	KindShuttingDown: {http.StatusServiceUnavailable, "Shutting down", 5},

	KindNotImplemented: {http.StatusNotImplemented, "Not in this version", 0},
	KindMethod:         {http.StatusMethodNotAllowed, "The method is not allowed here", 0},
	KindTooLarge:       {http.StatusRequestEntityTooLarge, "The request is too large", 0},
	KindInternal:       {http.StatusInternalServerError, "An error of the server's", 0},
}

// An Error has a kind, and a text for people that says what to do.
type Error struct {
	Kind Kind
	Text string
	err  error // what Text was made of, if it wrapped something
}

// Errorf makes an error of a kind. %w wraps as in fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Text: err.Error(), err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the error that the text was made of, if any.
func (e *Error) Unwrap() error { return e.err }

// KindOf returns the kind of the outermost *Error in err's chain, and KindInternal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
