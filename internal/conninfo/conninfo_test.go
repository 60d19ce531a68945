package conninfo

import (
	"slices"
	"strings"
	"testing"
)

func TestParseReadsWhatLibpqReads(t *testing.T) {
	tests := []struct {
		in   string
		want []Setting
	}{
		{"", nil},
		{"host=a", []Setting{{"host", "a"}}},
		{" host = a  port=5432\tuser=sluice ", []Setting{{"host", "a"}, {"port", "5432"}, {"user", "sluice"}}},
		{`password='it''`, nil},
		{`password='it\'s' user=x`, []Setting{{"password", "it's"}, {"user", "x"}}},
		{`password=a\ b`, []Setting{{"password", "a b"}}},
		{`password=''`, []Setting{{"password", ""}}},
		{`password='a''b'`, nil},
		{"postgresql://", nil},
		{"postgres://u:p%40@h:5433/db?sslmode=require", []Setting{
			{"user", "u"}, {"password", "p@"}, {"host", "h"}, {"port", "5433"}, {"dbname", "db"}, {"sslmode", "require"},
		}},
		{"postgresql://a:1,b:2/?target_session_attrs=read-write", []Setting{
			{"host", "a,b"}, {"port", "1,2"}, {"target_session_attrs", "read-write"},
		}},
		{"postgresql://[::1]:5432/", []Setting{{"host", "::1"}, {"port", "5432"}}},
		{"postgresql://[::1]/", []Setting{{"host", "::1"}}},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in)
		if !slices.Equal(got, tt.want) {
			t.Errorf("Parse(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	for _, in := range []string{
		"host=a s3cret", "s3cret", "password='s3cret", "=s3cret", "postgresql://u:s3cret@x@h/", "postgresql://u:s3cret%zz@h/",
		"postgresql://u@h/?s3cret",
	} {
		_, err := Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) succeeded", in)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Parse(%q): the error shows it: %v", in, err)
		}
		if got := Mask(in); got != masked {
			t.Errorf("Mask(%q) = %q", in, got)
		}
	}
}

func TestMaskHidesSecretsAndKeepsTheRest(t *testing.T) {
	tests := [][2]string{
		{"host=a password=s3cret user=u", "host=a password=*** user=u"},
		{"postgresql://u:s3cret@h:1/db?sslpassword=s3cret", "user=u password=*** host=h port=1 dbname=db sslpassword=***"},
		{`user='a b' password='s3 cret'`, `user='a b' password=***`},
	}
	for _, tt := range tests {
		if got := Mask(tt[0]); got != tt[1] {
			t.Errorf("Mask(%q) = %q, want %q", tt[0], got, tt[1])
		}
	}
}

func TestCheckRefusesWhatSluiceSets(t *testing.T) {
	for _, in := range []string{"", "  ", "host=a application_name=b", "postgresql://h/?replication=true", "nonsense"} {
		if err := Check(in); err == nil {
			t.Errorf("Check(%q) = nil", in)
		}
	}
	for _, in := range []string{"host=a", "host=a,b target_session_attrs=read-write", "service=main"} {
		if err := Check(in); err != nil {
			t.Errorf("Check(%q) = %v", in, err)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("host=a password='it\\'s' user=u", "x")
	f.Add("postgresql://u:p@h:1/db?sslpassword=s", "y")
	f.Fuzz(func(t *testing.T, s, secret string) {
		// Masking what was masked changes nothing: it was read back as it was written.
		once := Mask(s)
		if twice := Mask(once); once != masked && twice != once {
			t.Errorf("Mask(%q) = %q, again %q", s, once, twice)
		}
		if secret = strings.Trim(secret, spaces); len(secret) < 4 || strings.Contains(masked+" password=", secret) {
			return
		}
		if got := Mask("password=" + quote(secret)); got != "password="+masked {
			t.Errorf("Mask shows %q", got)
		}
	})
}
