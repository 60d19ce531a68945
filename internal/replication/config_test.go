package replication

import (
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

func TestConninfo(t *testing.T) {
	for conninfo, want := range map[string]string{ // what the error names; "": none
		"host=h user=u":                             "",
		"postgresql://u@h:5432,h2/db":               "",
		"host=h,h2 target_session_attrs=read-write": "",
		"host=h user=u application_name=x":          "application_name",
		"postgres://h/?application_name=x":          "application_name",
		"host=h replication=database":               "replication",
		"host=h sslcrl=/crl":                        "sslcrl",
		"host=h port=x":                             "port",
		"host=h sslmode=nonsense":                   "sslmode",
		"host":                                      "conninfo",
		// As pg_basebackup -R writes it.
		"user=r passfile='/p' channel_binding=prefer host=h port=5432 sslmode=prefer sslcompression=0 sslsni=1 " +
			"ssl_min_protocol_version=TLSv1.2 gssencmode=prefer krbsrvname=postgres target_session_attrs=any": "",
		"host=h keepalives=1 keepalives_idle=10 tcp_user_timeout=1000": "",
	} {
		err := CheckConninfo(conninfo, "a")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", conninfo, err, want)
		}
	}
}

// PGAPPNAME is not the user's wish for this connection.
func TestApplicationNameOfTheEnvironmentIsNoError(t *testing.T) {
	t.Setenv("PGAPPNAME", "something")
	if err := CheckConninfo("host=h", "a"); err != nil {
		t.Error(err)
	}
}

func TestPasswordIsNotInAnError(t *testing.T) {
	for _, conninfo := range []string{
		"host=h password=secret application_name=x", "host=h password=secret port=x", "postgres://u:secret@h:x/db",
	} {
		if err := CheckConninfo(conninfo, "a"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", conninfo, err)
		}
	}
}

func TestStartupParameters(t *testing.T) {
	cfg, err := Config{Conninfo: "host=h keepalives=1 options='-c x=y'", NodeID: "a"}.withDefaults().parse("a")
	must(t, err)
	for name, want := range map[string]string{"application_name": "a", "replication": "true", "options": "-c x=y", "keepalives": ""} {
		if got := cfg.RuntimeParams[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if cfg.ConnectTimeout != 10*time.Second {
		t.Errorf("connect timeout %s", cfg.ConnectTimeout)
	}
}

func TestNodeIDNamesASlot(t *testing.T) {
	for id, valid := range map[string]bool{
		"a": true, "node_1": true, "": false, "A": false, "a-b": false, "a b": false, strings.Repeat("a", 41): false, "a;drop": false,
	} {
		if err := CheckConninfo("host=h", id); (err == nil) != valid {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]int{
		"15.18 (Debian 15.18-0+deb12u1)": 150018, "13.0": 130000, "18beta1": 180000, "17": 170000,
		"12.22": 0, "9.6.24": 0, "": 0, "x": 0,
	} {
		if got, err := parseVersion(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
}

func TestSlotUser(t *testing.T) {
	for message, want := range map[string]uint32{
		`replication slot "sluice_n2" is active for PID 4711`:  4711,
		`レプリケーションスロット"sluice_n2"はPID%dで有効です`:                   0,
		`Replikations-Slot »sluice_n2« ist aktiv für PID 4711`: 4711,
		`replication slot "sluice_n2" is active`:               0,
		`is active for PID 99999999999999`:                     0,
	} {
		if got := slotUser(message, "sluice_n2"); got != want {
			t.Errorf("%s: got %d", message, got)
		}
	}
}

func TestStatusMessage(t *testing.T) {
	got := appendStatus(nil, 0x1600000028, time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), true)
	want := "d\x00\x00\x00\x26r" + // 38 bytes follow the type
		"\x00\x00\x00\x16\x00\x00\x00\x28" + "\x00\x00\x00\x16\x00\x00\x00\x28" + // written and flushed
		strings.Repeat("\x00", 8) + // applied: never
		"\x00\x00\x00\x00\x00\x0f\x42\x40" + "\x01" // a second in microseconds; answer, please
	if string(got) != want || len(got) != statusLen {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSlotName(t *testing.T) {
	if got := SlotName("a"); got != "sluice_a" {
		t.Error(got)
	}
}

func TestSourceVersion(t *testing.T) {
	if got := (Source{ServerVersion: 150018, TLI: pg.TLI(1)}).Version(); got != "15.18" {
		t.Error(got)
	}
}
