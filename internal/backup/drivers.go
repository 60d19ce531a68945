package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/blob/s3blob"
	"google.golang.org/api/googleapi"
)

// opened is a bucket, and what belongs to it.
type opened struct {
	bucket *blob.Bucket
	root   string // the directory of a file:// store, else empty
	idle   func() // closes connections that nobody uses; may be nil
}

// openBucket opens what a URL names.
func openBucket(ctx context.Context, rawURL string, cfg Config) (o opened, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return opened{}, fmt.Errorf("%w: it cannot be read: %w", ErrBadURL, withoutURL(err))
	}
	switch u.Scheme {
	case fileblob.Scheme:
		o, err = openDirectory(u, cfg)
	case s3blob.Scheme:
		o, err = openS3(ctx, u, cfg.Log)
	case gcsblob.Scheme, azureblob.Scheme, memblob.Scheme:
		o.bucket, err = blob.OpenBucket(ctx, rawURL)
	default:
		return opened{}, fmt.Errorf("%w: its scheme is %q: want file, s3, gs, azblob or mem", ErrBadURL, u.Scheme)
	}
	if err != nil {
		return opened{}, fmt.Errorf("open object store %s: %w", u.Redacted(), err)
	}
	return o, nil
}

// withoutURL drops the URL from an error, which may hold a password.
func withoutURL(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// openDirectory opens file:///absolute or file://./relative. Fileblob reads and deletes; what is written or listed is
// so by [directory].
func openDirectory(u *url.URL, cfg Config) (opened, error) {
	path := u.Path
	switch {
	case u.RawQuery != "":
		return opened{}, fmt.Errorf("%w: with file:// it takes no parameters", ErrBadURL)
	case u.Host == ".":
		path = strings.TrimPrefix(path, "/")
	case u.Host != "" && u.Host != "localhost":
		return opened{}, fmt.Errorf("%w: %q is no directory: write file:///absolute/path or file://./relative/path", ErrBadURL, u.Host)
	}
	root, err := filepath.Abs(filepath.FromSlash(path))
	if err != nil {
		return opened{}, err
	}
	if !cfg.ReadOnly {
		if err := mkdirDurably(root); err != nil {
			return opened{}, err
		}
	}
	b, err := fileblob.OpenBucket(root, &fileblob.Options{Metadata: fileblob.MetadataDontWrite, NoTempDir: true})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoBucket, err)
	}
	return opened{bucket: b, root: root}, err
}

// openS3 opens a bucket by gocloud's reading of the URL, and gives the client under it our logger, because the SDK's own
// writes to standard error, and connections of its own, so that they end with the store.
func openS3(ctx context.Context, u *url.URL, log *slog.Logger) (opened, error) {
	var opener s3blob.URLOpener
	plain, err := opener.OpenBucketURL(ctx, u)
	if err != nil {
		return opened{}, err
	}
	var client *s3.Client
	if !plain.As(&client) {
		return opened{}, errors.New("gocloud.dev does not show its S3 client")
	}
	opts := client.Options()
	opts.Logger = awsLogger{log}
	var o opened
	if h, ok := opts.HTTPClient.(*awshttp.BuildableClient); ok {
		opts.HTTPClient = h.WithTransportOptions(func(t *http.Transport) { o.idle = t.CloseIdleConnections })
	}
	o.bucket, err = s3blob.OpenBucket(ctx, s3.New(opts), u.Host, &opener.Options)
	return o, err
}

// awsLogger hands what the SDK has to say to slog. Its warnings are about what it skipped, not about what failed: failures
// are returned.
type awsLogger struct{ log *slog.Logger }

// Logf implements smithy's logging.Logger.
func (l awsLogger) Logf(c logging.Classification, format string, args ...any) {
	l.log.Debug("object store sdk", slog.String("classification", string(c)), slog.String("text", fmt.Sprintf(format, args...)))
}

// serverError returns the code and the HTTP status with which a server refused a request; zeros if none did.
func serverError(err error) (code string, status int) {
	var coded interface{ ErrorCode() string } // smithy.APIError
	if errors.As(err, &coded) {
		code = coded.ErrorCode()
	}
	var stated interface{ HTTPStatusCode() int } // smithy's ResponseError
	if errors.As(err, &stated) {
		status = stated.HTTPStatusCode()
	}
	var azure *azcore.ResponseError
	if errors.As(err, &azure) {
		code, status = azure.ErrorCode, azure.StatusCode
	}
	var google *googleapi.Error
	if errors.As(err, &google) {
		status = google.Code
	}
	if errors.Is(err, os.ErrPermission) || lacksCredentials(err) {
		status = http.StatusForbidden
	}
	return code, status
}

// lacksCredentials tells that the AWS SDK found none to send, for which it has no type.
func lacksCredentials(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to refresh cached credentials")
}
