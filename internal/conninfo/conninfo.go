// Package conninfo reads PostgreSQL's connection strings as far as Sluice has to judge and to show
// them; pgconn reads them to connect.
//
// It promises that no error and no masked text holds a password. It is pure; everything may be called
// at once.
package conninfo

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// masked stands for a secret.
const masked = "***"

// A Setting is one keyword of a connection string with its value, unescaped.
type Setting struct {
	Key, Value string
}

// ownedKeys are decided by Sluice: its name is how synchronous_standby_names finds it, and the slot
// goes by the same name.
var ownedKeys = []string{"application_name", "fallback_application_name", "replication"}

// secretKeys are libpq's keywords whose values must not be shown (PostgreSQL 18,
// "Parameter Key Words", those with dispchar "*").
var secretKeys = []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}

// Check says whether a source may be reached by this connection string.
func Check(s string) error {
	settings, err := Parse(s)
	if err != nil {
		return err
	}
	if len(settings) == 0 {
		return errors.New("it is empty; name at least a host, such as host=127.0.0.1 port=5432 user=sluice")
	}
	for _, set := range settings {
		if slices.Contains(ownedKeys, set.Key) {
			return fmt.Errorf("it sets %s, which Sluice sets itself; leave it out", set.Key)
		}
	}
	return nil
}

// Parse reads both forms, "host=... user=..." and "postgresql://...", as libpq does
// (conninfo_parse and conninfo_uri_parse_options in fe-connect.c).
func Parse(s string) ([]Setting, error) {
	if rest, ok := cutScheme(s); ok {
		return parseURI(rest)
	}
	return parseKeywords(s)
}

// Mask returns the connection string with its secrets replaced. What it cannot read it replaces whole.
func Mask(s string) string {
	settings, err := Parse(s)
	if err != nil {
		return masked
	}
	words := make([]string, 0, len(settings))
	for _, set := range settings {
		value := set.Value
		if slices.Contains(secretKeys, strings.ToLower(set.Key)) {
			value = masked
		}
		words = append(words, set.Key+"="+quote(value))
	}
	return strings.Join(words, " ")
}

// quote writes a value so that parseKeywords reads it back.
func quote(v string) string {
	if v != "" && !strings.ContainsAny(v, " \t\n\r\v\f'\\") {
		return v
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

func cutScheme(s string) (rest string, ok bool) {
	for _, scheme := range []string{"postgresql://", "postgres://"} {
		if rest, ok = strings.CutPrefix(s, scheme); ok {
			return rest, true
		}
	}
	return "", false
}

const spaces = " \t\n\r\v\f"

func parseKeywords(s string) ([]Setting, error) {
	var settings []Setting
	for s = strings.TrimLeft(s, spaces); s != ""; s = strings.TrimLeft(s, spaces) {
		// A keyword cannot be told from a mistyped secret: the errors name none.
		key, rest, ok := strings.Cut(s, "=")
		key = strings.TrimRight(key, spaces)
		if !ok || key == "" || strings.ContainsAny(key, spaces) {
			return nil, fmt.Errorf("it is no connection string: word %d is not keyword=value", len(settings)+1)
		}
		value, rest, err := parseValue(strings.TrimLeft(rest, spaces))
		if err != nil {
			return nil, err
		}
		settings = append(settings, Setting{key, value})
		s = rest
	}
	return settings, nil
}

// parseValue reads one value, quoted or not, and returns what follows it.
func parseValue(s string) (value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && strings.IndexByte(spaces, c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("it has a quoted value without an end")
	}
	return b.String(), "", nil
}

var errURI = errors.New("it is no valid postgresql:// URI; mind that special characters in it are written as %XX")

// parseURI reads what follows the scheme: [user[:password]@][host[:port],...][/dbname][?key=value&...].
func parseURI(s string) ([]Setting, error) {
	main, query, _ := strings.Cut(s, "?")
	authority, dbname, _ := strings.Cut(main, "/")
	settings, hosts, err := parseUser(authority)
	if err != nil {
		return nil, err
	}
	settings = append(settings, parseHosts(hosts)...)
	settings = append(settings, Setting{"dbname", dbname})
	for pair := range strings.SplitSeq(query, "&") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok && pair != "" {
			return nil, errURI
		}
		settings = append(settings, Setting{key, value})
	}
	return unescape(settings)
}

func parseUser(authority string) (settings []Setting, hosts string, err error) {
	if strings.Count(authority, "@") > 1 {
		return nil, "", errURI // a password with an unescaped @: libpq takes its end for a host
	}
	user, hosts, ok := strings.Cut(authority, "@")
	if !ok {
		return nil, authority, nil
	}
	name, password, _ := strings.Cut(user, ":")
	return []Setting{{"user", name}, {"password", password}}, hosts, nil
}

// parseHosts splits "a:1,b:2" into the two lists that libpq makes of it.
func parseHosts(s string) []Setting {
	var hosts, ports []string
	for host := range strings.SplitSeq(s, ",") {
		port := ""
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host, port = host[:i], host[i+1:]
		}
		hosts = append(hosts, strings.Trim(host, "[]"))
		ports = append(ports, port)
	}
	settings := []Setting{{"host", strings.Join(hosts, ",")}}
	if port := strings.Join(ports, ","); strings.Trim(port, ",") != "" {
		settings = append(settings, Setting{"port", port})
	}
	return settings
}

// unescape decodes %XX and drops what is empty.
func unescape(settings []Setting) ([]Setting, error) {
	kept := settings[:0]
	for _, set := range settings {
		key, err := url.PathUnescape(set.Key)
		if err != nil {
			return nil, errURI
		}
		value, err := url.PathUnescape(set.Value)
		if err != nil {
			return nil, errURI
		}
		if key != "" && value != "" {
			kept = append(kept, Setting{key, value})
		}
	}
	return kept, nil
}
