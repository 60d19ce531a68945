package timeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
)

// controlVersion is the newest control file that this program reads and the one
// that it writes.
const controlVersion = 1

const (
	controlFile  = "control"
	controlMagic = "sluice-control"
	// controlMaxBytes bounds what is read of a file that may be anything.
	controlMaxBytes = 1 << 20
)

// ErrControlDamaged says that a control file is not what was written: the
// timeline is broken until somebody looks at it.
var ErrControlDamaged = errors.New("control file is damaged")

// Control is what is known about a timeline durably. Positions in it may lag
// the WAL, never lead it; everything else is written before it is acted upon.
type Control struct {
	Tenant      TenantID    `json:"tenant"`
	Timeline    string      `json:"timeline"`
	Incarnation Incarnation `json:"incarnation"`
	// Revived is how often that life came back after its end, as far as this node
	// knows: a deletion ends no later one.
	Revived   int       `json:"revived,omitempty"`
	CreatedAt time.Time `json:"created_at"`

	// Source is the conninfo that is streamed from; "" = none.
	Source string `json:"source,omitempty"`
	// FileSource is the configuration file's conninfo when it last changed: the
	// API's source wins until the file's value changes again.
	FileSource string `json:"file_source,omitempty"`

	// SystemID is 0 until a source was seen, and never changes after that; nor
	// does SegmentSize.
	SystemID    uint64         `json:"system_identifier,omitempty,string"`
	SegmentSize pg.SegmentSize `json:"segment_size,omitempty"`

	// Start is the first position held: the start of a segment.
	Start pg.Position `json:"start"`
	// JoinLSN is the source's position when this node joined: it is qualified
	// once it holds everything from Start to there.
	JoinLSN pg.LSN `json:"join_lsn,omitempty"`
	// JoinTLI is the TLI of JoinLSN; 0: that of Start.
	JoinTLI pg.TLI `json:"join_tli,omitempty"`
	// Away says that this node has left the source, as a warm copy or for good: it
	// joins anew when it comes back, though what it holds begins at Start.
	Away bool `json:"away,omitempty"`
	// Flush is a position that a finished sync vouched for.
	Flush pg.Position `json:"flush"`
	// RecordEnd is the end of the last complete record at or below Flush; 0 if
	// none is known.
	RecordEnd pg.LSN `json:"record_end,omitempty"`
	// Clean says that the log was closed at exactly Flush, so that the next
	// start need not doubt what is beyond the last sync.
	Clean bool `json:"clean"`

	// Promised is a TLI that is never again acknowledged though its end is not
	// decided yet: a seal that object storage could not be asked about. 0: none.
	Promised pg.TLI   `json:"promised,omitempty"`
	Seals    []Seal   `json:"seals,omitempty"`
	Quorums  []Quorum `json:"quorums,omitempty"`
	// AcceptDataLossOn is the TLI that the source may leave below its decided end;
	// 0: none. It is used up by being left.
	AcceptDataLossOn pg.TLI `json:"accept_data_loss_on,omitempty"`
	// New is an operator's word that no other node and no object storage has ever
	// held this timeline: it need not be asked before anything is acknowledged.
	New bool `json:"new,omitempty"`
	// Again is an operator's word that the timeline may begin another life, where
	// object storage has the tombstone of an earlier one.
	Again bool `json:"again,omitempty"`
	// Stored is what is known of this timeline in object storage; nil until its
	// identity was decided there.
	Stored *Stored `json:"stored,omitempty"`
	// Nodes are the other nodes that were ever heard to keep this timeline: while
	// nothing is heard of them, it is still known that their word counts. Commit is
	// up to where what is held here was known to be on enough of them; its TLI is 0
	// where nobody else vouches for anything.
	Nodes  []string    `json:"nodes,omitempty"`
	Commit pg.Position `json:"commit,omitzero"`
	// Deleting is the mark that starts a deletion: set, it is never taken back.
	Deleting bool `json:"deleting,omitempty"`
	// KeepObjects says that a deletion leaves what is in object storage.
	KeepObjects bool `json:"keep_objects,omitempty"`
	// Ended is how this life was deleted elsewhere; nil: it goes on, as far as this
	// node knows.
	Ended *Ended `json:"ended,omitempty"`
}

// ID returns the timeline's name.
func (c Control) ID() ID { return ID{Tenant: c.Tenant, Name: c.Timeline} }

// SealOf returns the seal of a TLI.
func (c Control) SealOf(tli pg.TLI) (Seal, bool) { return sealOf(c.Seals, tli) }

// QuorumOf returns the quorum kept for a TLI; the zero Quorum (not synchronous)
// if none was read.
func (c Control) QuorumOf(tli pg.TLI) Quorum {
	q, ok := quorumOf(c.Quorums, tli)
	if !ok {
		return Quorum{TLI: tli, Required: 1}
	}
	return q
}

// QuorumAt returns the quorum that counts on a TLI: the one that was read on it, or,
// until that was done, on the newest before it; false if none was.
func (c Control) QuorumAt(tli pg.TLI) (newest Quorum, read bool) {
	for _, q := range c.Quorums {
		if q.TLI <= tli && (!read || q.TLI > newest.TLI) {
			newest, read = q, true
		}
	}
	return newest, read
}

// CommitOf is up to where what a node that does not run holds of its newest TLI was
// on enough nodes, as far as it knew: all, where nobody else keeps the timeline.
func (c Control) CommitOf(tli pg.TLI, recordEnd pg.LSN) pg.LSN {
	switch {
	case c.Commit.TLI == 0:
		return recordEnd
	case c.Commit.TLI == tli:
		return min(c.Commit.LSN, recordEnd)
	}
	return 0
}

// Vouched is what the log may rely on when it is opened.
func (c Control) Vouched() wal.Vouched {
	return wal.Vouched{Position: c.Flush, RecordEnd: c.RecordEnd, Start: c.Start.LSN, Clean: c.Clean}
}

// QualifiedAt reports whether a node that holds WAL up to p has held, unbroken,
// everything from the first position to the source's position when it joined:
// only then does its "does not exist" count.
func (c Control) QualifiedAt(p pg.Position) bool {
	joined := cmp.Or(c.JoinTLI, c.Start.TLI)
	return c.Start.TLI != 0 && !c.Away && (p.TLI > joined || p.TLI == joined && p.LSN >= c.JoinLSN)
}

// clone returns a copy that shares no slice with c.
func (c Control) clone() Control {
	c.Seals = append([]Seal(nil), c.Seals...)
	c.Quorums = append([]Quorum(nil), c.Quorums...)
	c.Nodes = append([]string(nil), c.Nodes...)
	if c.Stored != nil {
		stored := *c.Stored
		c.Stored = &stored
	}
	if c.Ended != nil {
		ended := *c.Ended
		c.Ended = &ended
	}
	return c
}

// setQuorum replaces the quorum of its TLI.
func (c *Control) setQuorum(q Quorum) {
	for i := range c.Quorums {
		if c.Quorums[i].TLI == q.TLI {
			c.Quorums[i] = q
			return
		}
	}
	c.Quorums = append(c.Quorums, q)
}

// encode returns one line that a program can check, and JSON that a person can
// read.
func (c Control) encode() ([]byte, error) {
	body, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode control file: %w", err)
	}
	body = append(body, '\n')
	head := fmt.Sprintf("%s %d %08x %d\n", controlMagic, controlVersion, crc32.Checksum(body, castagnoli), len(body))
	return append([]byte(head), body...), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decodeControl checks and parses a control file. Errors wrap
// ErrControlDamaged, but for a file of a newer program, which is none.
func decodeControl(b []byte) (Control, error) {
	head, body, ok := bytes.Cut(b, []byte{'\n'})
	words := strings.Fields(string(head))
	if !ok || len(words) != 4 || words[0] != controlMagic {
		return Control{}, fmt.Errorf("%w: it does not begin with %q", ErrControlDamaged, controlMagic)
	}
	version, err := strconv.Atoi(words[1])
	if err != nil || version < 1 {
		return Control{}, fmt.Errorf("%w: its version is %q", ErrControlDamaged, words[1])
	}
	if version > controlVersion {
		return Control{}, fmt.Errorf("control file has version %d, and this program knows %d: it was written by a newer sluice; use that one", version, controlVersion)
	}
	if n := strconv.Itoa(len(body)); words[3] != n {
		return Control{}, fmt.Errorf("%w: it holds %s bytes and should hold %s", ErrControlDamaged, n, words[3])
	}
	if sum := fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)); sum != words[2] {
		return Control{}, fmt.Errorf("%w: its checksum is %s and should be %s", ErrControlDamaged, sum, words[2])
	}
	var c Control
	if err := json.Unmarshal(body, &c); err != nil {
		return Control{}, fmt.Errorf("%w: %w", ErrControlDamaged, err)
	}
	return c, c.check()
}

// check refuses what no sluice writes.
func (c Control) check() error {
	if _, err := NewID(string(c.Tenant), c.Timeline); err != nil {
		return fmt.Errorf("%w: %w", ErrControlDamaged, err)
	}
	if c.Incarnation == "" {
		return fmt.Errorf("%w: it has no incarnation", ErrControlDamaged)
	}
	if c.SystemID != 0 && !c.SegmentSize.Valid() {
		return fmt.Errorf("%w: segment size %d", ErrControlDamaged, c.SegmentSize)
	}
	for _, seal := range c.Seals {
		if seal.TLI == 0 || seal.End == 0 {
			return fmt.Errorf("%w: it seals TLI %d at %s", ErrControlDamaged, seal.TLI, seal.End)
		}
	}
	return nil
}

// LoadControl reads the control file of the timeline directory dir. It is
// fs.ErrNotExist when there is none, and wraps ErrControlDamaged when it is not
// what was written.
func LoadControl(fsys wal.FS, dir string) (Control, error) {
	b, err := wal.ReadFile(fsys, filepath.Join(dir, controlFile), controlMaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Control{}, fmt.Errorf("read control file: %w", err)
	}
	if err != nil {
		return Control{}, fmt.Errorf("read control file of %s: %w", dir, err)
	}
	c, err := decodeControl(b)
	if err != nil {
		return Control{}, fmt.Errorf("%s: %w", filepath.Join(dir, controlFile), err)
	}
	return c, nil
}

// saveControl makes c durable in dir, at once or not at all.
func saveControl(fsys wal.FS, dir string, c Control) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	if err := wal.WriteFileAtomic(fsys, filepath.Join(dir, controlFile), b); err != nil {
		return fmt.Errorf("save control file: %w", err)
	}
	return nil
}
