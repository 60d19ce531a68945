package timeline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// nameRule is the rule of names that appear in paths, URLs and object keys; a
// name that follows it can be no "..", hold no slash, and needs no quoting.
const nameRule = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`

var nameRegexp = regexp.MustCompile(`^` + nameRule + `$`)

// TenantID names a tenant: one customer's namespace.
type TenantID string

// ParseTenantID checks the name of a tenant.
func ParseTenantID(s string) (TenantID, error) {
	if err := checkName("tenant", s); err != nil {
		return "", err
	}
	return TenantID(s), nil
}

// ID names a timeline. The zero value names none.
type ID struct {
	Tenant TenantID
	Name   string
}

// ParseID parses "TENANT/TIMELINE".
func ParseID(s string) (ID, error) {
	tenant, name, ok := strings.Cut(s, "/")
	if !ok {
		return ID{}, fmt.Errorf("timeline %q: want TENANT/TIMELINE, such as acme/main", s)
	}
	return NewID(tenant, name)
}

// NewID checks both names.
func NewID(tenant, name string) (ID, error) {
	t, err := ParseTenantID(tenant)
	if err != nil {
		return ID{}, err
	}
	if err := checkName("timeline", name); err != nil {
		return ID{}, err
	}
	return ID{Tenant: t, Name: name}, nil
}

// String returns "TENANT/TIMELINE", or "TENANT" where there is no timeline's name.
func (id ID) String() string {
	if id.Name == "" {
		return string(id.Tenant)
	}
	return string(id.Tenant) + "/" + id.Name
}

func checkName(what, s string) error {
	if nameRegexp.MatchString(s) {
		return nil
	}
	return fmt.Errorf("%s name %q: want 1 to 63 lower-case letters, digits and hyphens, neither first nor last a hyphen", what, s)
}

// Incarnation is one life of a timeline, between create and delete: a UUIDv7.
// It fences storage, so that a late write of an earlier life reaches nothing of
// a later one.
type Incarnation string

// NewIncarnation returns a new one.
func NewIncarnation() (Incarnation, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an incarnation: %w", err)
	}
	return Incarnation(id.String()), nil
}
