package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nats-io/nats.go"
)

// advise adds to NATS's own words why a connection was not made, and which key of the configuration to look at. The
// files are read again for each try, so that whoever puts one right need not restart the node.
func advise(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		missing *fs.PathError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("the server's certificate is not of the CA in broker.tls.ca (without one: of a CA of this system): %w", err)
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is not of the host that broker.url names: %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("the server's certificate is not valid, and has to be renewed there: %w", err)
	case errors.As(err, &missing):
		return fmt.Errorf("a file of broker.credentials_file or broker.tls cannot be read: %w", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("the server speaks no TLS; leave out broker.tls, or put broker.url right: %w", err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("the server refuses who this node says it is; put broker.credentials_file right, or the user and password in broker.url: %w", err)
	case strings.Contains(err.Error(), "remote error: tls:"): // an alert, of which crypto/tls shows no type
		return fmt.Errorf("the server refuses this node's certificate; broker.tls.cert has to be of a CA that the server trusts: %w", err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("the server lets this node in, and not speak or hear: %w", err)
	}
	return err
}
