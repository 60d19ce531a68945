package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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

// openBucket opens what a URL names. The root is the directory of a file:// store, else empty.
func openBucket(ctx context.Context, rawURL string, cfg Config) (b *blob.Bucket, root string, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, "", fmt.Errorf("object store: the URL cannot be read: %w", withoutURL(err))
	}
	switch u.Scheme {
	case fileblob.Scheme:
		return openDirectory(u, cfg)
	case s3blob.Scheme:
		b, err = openS3(ctx, u, cfg.Log)
	case gcsblob.Scheme, azureblob.Scheme, memblob.Scheme:
		b, err = blob.OpenBucket(ctx, rawURL)
	default:
		return nil, "", fmt.Errorf("object store: URL scheme %q: want file, s3, gs, azblob or mem", u.Scheme)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open object store %s: %w", u.Redacted(), err)
	}
	return b, "", nil
}

// withoutURL drops the URL from an error, which may hold a password.
func withoutURL(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// openDirectory opens file:///absolute or file://./relative. Fileblob reads, lists and deletes; what is written is
// written by [directory].
func openDirectory(u *url.URL, cfg Config) (*blob.Bucket, string, error) {
	path := u.Path
	switch {
	case u.RawQuery != "":
		return nil, "", fmt.Errorf("object store %s: a file:// URL takes no parameters", u)
	case u.Host == ".":
		path = strings.TrimPrefix(path, "/")
	case u.Host != "" && u.Host != "localhost":
		return nil, "", fmt.Errorf("object store %s: %q is no directory: write file:///absolute/path or file://./relative/path", u, u.Host)
	}
	root, err := filepath.Abs(filepath.FromSlash(path))
	if err != nil {
		return nil, "", fmt.Errorf("object store %s: %w", u, err)
	}
	if !cfg.ReadOnly {
		if err := mkdirDurably(root); err != nil {
			return nil, "", fmt.Errorf("make the object store's directory: %w", err)
		}
	}
	b, err := fileblob.OpenBucket(root, &fileblob.Options{Metadata: fileblob.MetadataDontWrite, NoTempDir: true})
	if err != nil {
		return nil, "", fmt.Errorf("open object store %s: %w", u, err)
	}
	return b, root, nil
}

// openS3 opens a bucket by gocloud's reading of the URL, and gives the client under it our logger: the SDK's own writes
// to standard error.
func openS3(ctx context.Context, u *url.URL, log *slog.Logger) (*blob.Bucket, error) {
	var opener s3blob.URLOpener
	quiet, err := opener.OpenBucketURL(ctx, u)
	if err != nil {
		return nil, err
	}
	var client *s3.Client
	if !quiet.As(&client) {
		return quiet, nil
	}
	opts := client.Options()
	opts.Logger = awsLogger{log}
	return s3blob.OpenBucket(ctx, s3.New(opts), u.Host, &opener.Options)
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
	if errors.Is(err, os.ErrPermission) {
		status = http.StatusForbidden
	}
	return code, status
}
