package restore

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// What a node's answer to a request for a file is made of.
const (
	answerHeader = "Sluice-Answer" // "file", "absent" or "unknown"
	noteHeader   = "Sluice-Note"   // with a file: what an operator should know
	digestHeader = "Repr-Digest"

	problemMedia    = "application/problem+json"
	absentProblem   = "urn:sluice:problem:absent"
	unsealedProblem = "urn:sluice:problem:unsealed"
)

// problem is an error as RFC 9457 writes it; empty if there is none.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// maxProblemBytes bounds what is read of one.
const maxProblemBytes = 64 << 10

func readProblem(resp *http.Response) problem {
	var p problem
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != problemMedia {
		return problem{}
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblemBytes)).Decode(&p); err != nil {
		return problem{}
	}
	return p
}

// text is the problem for people.
func (p problem) text(resp *http.Response) string {
	switch {
	case p.Detail != "":
		return p.Detail
	case p.Title != "":
		return p.Title
	}
	return fmt.Sprintf("status %s, and no answer of Sluice's: is the address right?", resp.Status)
}

// read tells the three answers apart. The body of a file is left to the caller.
func read(from string, resp *http.Response) Found {
	answer := resp.Header.Get(answerHeader)
	if resp.StatusCode == http.StatusOK && answer == Present.String() {
		return readFile(from, resp)
	}
	p := readProblem(resp)
	d := Decision{From: []string{from}, Text: fmt.Sprintf("%s: %s", from, p.text(resp))}
	switch {
	case resp.StatusCode == http.StatusNotFound && answer == Absent.String() && p.Type == absentProblem:
		d.Kind = Absent
	case p.Type == unsealedProblem:
		d.Reason = Unsealed
	case resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusTooManyRequests:
		d.Reason = Refused
	default:
		d.Reason, d.Retry = NotHeld, true
	}
	return Found{Decision: d}
}

func readFile(from string, resp *http.Response) Found {
	b := &Body{Size: resp.ContentLength}
	if err := readDigest(resp.Header.Get(digestHeader), b.Digest[:]); err != nil || b.Size < 0 {
		return Found{Decision: Decision{Reason: Damaged, Text: fmt.Sprintf("%s sends a file without its length or digest", from), Retry: true}}
	}
	return Found{Decision: Decision{Kind: Present, From: []string{from}, Text: resp.Header.Get(noteHeader)}, Body: b}
}

// readDigest reads "sha-256=:BASE64:", among others.
func readDigest(header string, into []byte) error {
	for member := range strings.SplitSeq(header, ",") {
		algorithm, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		if !strings.EqualFold(algorithm, "sha-256") {
			continue
		}
		sum, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":"))
		if err != nil || copy(into, sum) != len(into) || len(sum) != len(into) {
			return fmt.Errorf("digest %q: want the 32 bytes of a SHA-256", value)
		}
		return nil
	}
	return errors.New("there is no SHA-256")
}

// watch cuts off a body whose sender falls silent. Its own time-out must not be for the whole: a segment may have a
// gigabyte, and the way may be long.
func watch(body io.ReadCloser, stall time.Duration, cancel context.CancelCauseFunc) (io.Reader, func() error) {
	timer := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %v", stall)) })
	timer.Stop()
	return &watched{body, timer, stall}, func() error {
		cancel(nil)
		return body.Close()
	}
}

type watched struct {
	body  io.Reader
	timer *time.Timer
	stall time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	defer w.timer.Stop()
	return w.body.Read(p)
}
