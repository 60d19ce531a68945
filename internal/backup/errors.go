package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"syscall"

	"gocloud.dev/gcerrors"
)

// What a caller branches on. An object that is not there is fs.ErrNotExist.
var (
	// ErrDenied says that the store refuses our credentials. It lasts until a person acts, or credentials are renewed.
	ErrDenied = errors.New("the object store refuses the credentials: check them, and what they may do")
	// ErrCut says that an operation was cut because it took too long.
	ErrCut = errors.New("the object store did not answer in time")
	// ErrNoBucket says that the bucket is not there, or is not the one that was opened.
	ErrNoBucket = errors.New("the bucket is not there")
	// ErrNotStored says that the store confirmed a write, and does not have the object.
	ErrNotStored = errors.New("the object store confirmed the write and does not have the object")
	// ErrUnconditional says that the store overwrites what must be written once.
	ErrUnconditional = errors.New(`the object store ignores "only if absent" (If-None-Match: *)`)
	// ErrBadURL says that the store's URL names nothing that could be opened, ever.
	ErrBadURL = errors.New("the object store's URL cannot be used")
	// ErrDeleted says that the timeline was deleted.
	ErrDeleted = errors.New("the timeline was deleted")
	// ErrKept says that the objects of a life that has ended stay.
	ErrKept = errors.New("the timeline was deleted with its objects kept")
	// ErrAlive says that another life of the timeline is under way.
	ErrAlive = errors.New("another life of the timeline is under way")
	// ErrNotKept says that the objects of a life were not to be kept when it ended.
	ErrNotKept = errors.New("its objects were not kept when it was deleted")
)

// A ConflictError says that an object is there already, with other content. One of the two is wrong, or two histories
// claim one name; which, a person has to find out.
type ConflictError struct {
	Key    string
	Ours   string // what was to be written, in short
	Theirs string // what is there
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("object %s is there already with other content: there %s, here %s; nothing was overwritten", e.Key, e.Theirs, e.Ours)
}

// A DamagedError says that an object is not what was written under its name. It is left where it is.
type DamagedError struct {
	Key    string
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("object %s is damaged: %s", e.Key, e.Reason)
}

// Outcome is how an operation on the store ended, in a word. Outcomes lists them.
type Outcome string

// The outcomes of operations.
const (
	OK        Outcome = "ok"
	NotFound  Outcome = "not_found"
	Exists    Outcome = "exists" // a conditional write was refused
	Denied    Outcome = "denied"
	Cut       Outcome = "cut"
	Cancelled Outcome = "cancelled"
	Failed    Outcome = "error"
)

// Outcomes lists all of them.
func Outcomes() []Outcome { return []Outcome{OK, NotFound, Exists, Denied, Cut, Cancelled, Failed} }

// errExists is the refusal of a conditional write.
var errExists = errors.New("it is there already")

// classify says how an operation ended, and wraps its error in what a caller branches on. The parent is the context of
// the operation's caller: if that has ended, nobody failed.
func classify(parent context.Context, err error) (Outcome, error) {
	code, status := serverError(err)
	switch {
	case err == nil:
		return OK, nil
	case parent.Err() != nil:
		return Cancelled, context.Cause(parent)
	case errors.Is(err, errExists), gcerrors.Code(err) == gcerrors.FailedPrecondition, gcerrors.Code(err) == gcerrors.AlreadyExists:
		return Exists, fmt.Errorf("%w: %w", errExists, err)
	case noBucket(code, err):
		return Failed, fmt.Errorf("%w: %w", ErrNoBucket, err)
	case gcerrors.Code(err) == gcerrors.NotFound, errors.Is(err, fs.ErrNotExist):
		return NotFound, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case denied(code, status, err):
		return Denied, fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Cut, fmt.Errorf("%w: %w", ErrCut, err)
	}
	return Failed, err
}

func noBucket(code string, err error) bool {
	return errors.Is(err, ErrNoBucket) || code == "NoSuchBucket" || code == "ContainerNotFound"
}

// deniedCodes are the codes with which servers refuse credentials and that neither gocloud nor the HTTP status tells.
var deniedCodes = []string{
	"AccessDenied", "Forbidden", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken",
	"TokenRefreshRequired", "RequestExpired", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
	"XAdminUserNotFound", // versitygw's InvalidAccessKeyId
}

func denied(code string, status int, err error) bool {
	return gcerrors.Code(err) == gcerrors.PermissionDenied || slices.Contains(deniedCodes, code) ||
		status == http.StatusUnauthorized || status == http.StatusForbidden || errors.Is(err, syscall.EROFS)
}
