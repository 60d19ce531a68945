package pgserver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// templatesVar names a directory in which new clusters are kept, and from which they are copied. What initdb makes is the same
// each time but for the system identifier, and costs a second of CPU or more, for each of a test run's many servers.
const templatesVar = "PG_TEMPLATES"

// makeCluster has a new cluster in the data directory, from a template if there is a place for them.
func (s *Server) makeCluster(ctx context.Context) error {
	dir := os.Getenv(templatesVar)
	if dir == "" || s.opts.Password != "" {
		return s.runInitdb(ctx)
	}
	template := filepath.Join(dir, s.templateName())
	if _, err := os.Stat(template); err == nil {
		return s.copyTemplate(template)
	}
	if err := s.runInitdb(ctx); err != nil {
		return err
	}
	if err := keepTemplate(s.opts.Dir, template); err != nil {
		return fmt.Errorf("keep the new cluster as a template: %w", err)
	}
	return nil
}

// templateName tells apart what initdb would make differently.
func (s *Server) templateName() string {
	what := fmt.Sprint(s.install.BinDir, s.install.version, s.account.name)
	return fmt.Sprintf("%x-%d", sha256.Sum256([]byte(what)), s.opts.SegmentSizeMiB)
}

// keepTemplate copies a cluster that has never run. Another process may do the same at this moment.
func keepTemplate(cluster, template string) error {
	if err := os.MkdirAll(filepath.Dir(template), 0o700); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(template), "unfinished-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	if err := os.CopyFS(unfinished, os.DirFS(cluster)); err != nil {
		return err
	}
	if err := os.Rename(unfinished, template); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (s *Server) copyTemplate(template string) error {
	if err := os.CopyFS(s.opts.Dir, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy the template: %w", err)
	}
	if err := giveIdentifier(s.opts.Dir, newIdentifier()); err != nil {
		return fmt.Errorf("make a cluster of its own of the template: %w", err)
	}
	return s.account.give(s.opts.Dir)
}

// newIdentifier is made like PostgreSQL's own: the time, and what tells apart those of one moment.
func newIdentifier() uint64 { return uint64(time.Now().Unix())<<32 | uint64(rand.Uint32()) }

// giveIdentifier changes the system identifier of a cluster that has never run, in the two places that have it: the control file
// (ControlFileData, where it is the first field and a CRC the last) and the header of each segment of WAL
// (XLogLongPageHeaderData).
func giveIdentifier(cluster string, id uint64) error {
	control := filepath.Join(cluster, "global", "pg_control")
	b, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	end, err := controlEnd(b)
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(b, id)
	binary.NativeEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
	if err := os.WriteFile(control, b, 0o600); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(cluster, "pg_wal", "0*"))
	if err != nil {
		return err
	}
	for _, segment := range segments {
		if err := overwrite(segment, binary.NativeEndian.AppendUint64(nil, id), systemIDOffset); err != nil {
			return err
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// systemIDOffset is that of xlp_sysid, behind XLogPageHeaderData.
const systemIDOffset = 24

// controlEnd is where the control file's CRC stands, which each major version has in another place.
func controlEnd(control []byte) (int, error) {
	const least = 200 // in each version more comes before
	for end := least; end+4 <= len(control); end += 4 {
		if crc32.Checksum(control[:end], castagnoli) == binary.NativeEndian.Uint32(control[end:]) {
			return end, nil
		}
	}
	return 0, errors.New("pg_control has no CRC")
}

func overwrite(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}
