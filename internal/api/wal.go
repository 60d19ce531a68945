package api

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Headers of an answer to a request for a WAL file.
const (
	// HeaderAnswer has the Answer, also beside an error. Whoever restores goes by it and not by the
	// status: a proxy in between, or another service at this address, has statuses of its own.
	HeaderAnswer = "Sluice-Answer"
	// HeaderNote has what an operator should know about a file that is handed over.
	HeaderNote = "Sluice-Note"
	// HeaderDigest is the SHA-256 of the body, as RFC 9530 writes it.
	HeaderDigest = "Repr-Digest"
)

// fileRule is what a file in pg_wal may be called: a segment, a history, a partial segment, a backup
// label. Which of them exist is the node's to say.
var fileRule = regexp.MustCompile(`^[0-9A-F]{8}[0-9A-Za-z.]{0,56}$`)

func (s *Server) walRoutes(api huma.API) {
	op := operation(http.MethodGet, timelineRoute+"/wal/{file}", "get-wal", "A WAL segment or history file, whole")
	op.Description = "404 only when the file does not exist; 503 when that could not be found out."
	op.Middlewares = huma.Middlewares{doubted}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The file, verified",
		Content:     map[string]*huma.MediaType{"application/octet-stream": {}},
	}}
	huma.Register(api, op, s.getWAL)
}

// doubted says "unknown" on every answer that does not say better: a wrong request is no "does not
// exist".
func doubted(ctx huma.Context, next func(huma.Context)) {
	ctx.SetHeader(HeaderAnswer, string(AnswerUnknown))
	next(ctx)
}

type walInput struct {
	TimelinePath
	File           string `path:"file" doc:"Its name" example:"000000010000000000000001"`
	Copy           bool   `query:"copy" doc:"For a clone: it may end at the last whole segment"`
	AcceptDataLoss bool   `query:"accept_data_loss" doc:"Take this node's word for what does not exist"`
}

// body writes an answer that is not JSON.
type body struct{ Body func(huma.Context) }

func (s *Server) getWAL(ctx context.Context, in *walInput) (*body, error) {
	id, err := in.id()
	if err == nil && !fileRule.MatchString(in.File) {
		err = Errorf(KindInvalid, "this is no name of a WAL segment or history file")
	}
	var w WAL
	if err == nil {
		w, err = s.node.OpenWAL(ctx, id, in.File, WALOptions{Copy: in.Copy, AcceptDataLoss: in.AcceptDataLoss})
	}
	if err != nil {
		s.walAnswered(ctx, AnswerUnknown)
		return nil, s.fail(ctx, doubtful(err))
	}
	s.walAnswered(ctx, w.Answer)
	switch w.Answer {
	case AnswerFile:
		return &body{func(hc huma.Context) { s.sendWAL(hc, w) }}, nil
	case AnswerAbsent:
		return &body{func(hc huma.Context) { denyWAL(hc, w.Text) }}, nil
	}
	return nil, s.fail(ctx, Errorf(KindUnknown, "%s", w.Text))
}

// doubtful keeps a status of 404 for files: a timeline that is not here says nothing about its files.
func doubtful(err error) error {
	if KindOf(err) == KindNotFound {
		return Errorf(KindUnknown, "%w", err)
	}
	return err
}

func (s *Server) walAnswered(ctx context.Context, a Answer) {
	if s.cfg.Events.WALAnswered != nil {
		s.cfg.Events.WALAnswered(ctx, a)
	}
}

// denyWAL says that the file does not exist.
func denyWAL(hc huma.Context, text string) {
	hc.SetHeader(HeaderAnswer, string(AnswerAbsent))
	_, w := humago.Unwrap(hc)
	writeProblem(w, Errorf(KindAbsent, "%s", text))
}

// sendWAL streams the file until it ends, the client stops reading, or the timeline shuts down.
func (s *Server) sendWAL(hc huma.Context, wal WAL) {
	defer func() { _ = wal.Body.Close() }() // read only
	h := hc.SetHeader
	h(HeaderAnswer, string(AnswerFile))
	if wal.Text != "" {
		h(HeaderNote, strings.Join(strings.Fields(wal.Text), " "))
	}
	h(HeaderDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(wal.Digest[:])+":")
	h("Content-Type", "application/octet-stream")
	h("Content-Length", strconv.FormatInt(wal.Size, 10))
	hc.SetStatus(http.StatusOK)
	if hc.Method() == http.MethodHead {
		return
	}
	stopWatching := cutWhen(hc, wal.Gone)
	defer stopWatching()
	if _, err := io.CopyN(hc.BodyWriter(), wal.Body, wal.Size); err != nil {
		s.log.LogAttrs(hc.Context(), slog.LevelDebug, "WAL file not sent whole", slog.Any("error", err))
		// Too few bytes for the Content-Length: net/http closes the connection, the client knows.
	}
}

// cutWhen ends all writing to the client when gone is closed. The function that it returns waits.
func cutWhen(hc huma.Context, gone <-chan struct{}) (stop func()) {
	_, w := humago.Unwrap(hc)
	pw, ok := w.(*patientWriter)
	if !ok {
		panic("api: a route outside of the chain")
	}
	sent, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-gone:
			pw.cut(0)
		case <-sent:
		}
	}()
	return func() { close(sent); <-watched }
}
