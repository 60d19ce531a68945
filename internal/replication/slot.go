package replication

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sluicewal/sluice/internal/pg"
)

// Slot is our physical slot on a source.
type Slot struct {
	Name   string
	Exists bool
	// RestartLSN is the oldest WAL that the slot keeps on the source; 0: none (it was invalidated), or not known (PostgreSQL
	// 13 and 14 cannot be asked).
	RestartLSN pg.LSN
	RestartTLI pg.TLI // 0 where RestartLSN is
	// Made says why the slot was made in this session; empty if it was there.
	Made SlotReason
}

// SlotReason says why a slot was made.
type SlotReason string

// The reasons.
const (
	SlotAbsent      SlotReason = "absent"      // there was none of this name, as on a new TLI
	SlotInvalidated SlotReason = "invalidated" // it kept no WAL any more (max_slot_wal_keep_size, idle_replication_slot_timeout)
)

// ensureSlot makes sure that a slot that keeps WAL is there. A new one keeps it from the last checkpoint's redo point on:
// whether what lies between our end and there can still be had, streaming shows.
//
// An invalidated slot would let us stream and keep nothing (PostgreSQL 16 and later ignore it in
// ReplicationSlotsComputeRequiredLSN), so it is replaced.
func (l *link) ensureSlot(ctx context.Context, src *Source, invalidated bool) error {
	if err := l.readSlot(ctx, src); err != nil {
		return err
	}
	slot := &src.Slot
	if slot.Exists && (invalidated || slot.RestartLSN == 0) {
		if err := l.dropSlot(ctx, slot.Name); err != nil {
			return err
		}
		return l.makeSlot(ctx, src, SlotInvalidated)
	}
	if !slot.Exists {
		return l.makeSlot(ctx, src, SlotAbsent)
	}
	return nil
}

// readSlot fills src.Slot, whose Name is set, as far as the server's version lets us ask.
func (l *link) readSlot(ctx context.Context, src *Source) error {
	if !canReadSlot(src.ServerVersion) {
		return nil
	}
	row, err := l.row(ctx, "READ_REPLICATION_SLOT "+src.Slot.Name, 3)
	if err != nil {
		return err
	}
	return src.Slot.parse(row)
}

// parse reads a row of READ_REPLICATION_SLOT: type, restart LSN, TLI; all NULL if there is no such slot. A logical slot
// is an error of the server's.
func (s *Slot) parse(row [][]byte) error {
	s.Exists = row[0] != nil
	if row[1] == nil {
		return nil
	}
	lsn, err := pg.ParseLSN(string(row[1]))
	if err != nil {
		return fmt.Errorf("READ_REPLICATION_SLOT: %w", err)
	}
	tli, err := strconv.ParseUint(string(row[2]), 10, 32)
	if err != nil {
		return fmt.Errorf("READ_REPLICATION_SLOT: invalid TLI %q", row[2])
	}
	s.RestartLSN, s.RestartTLI = lsn, pg.TLI(tli)
	return nil
}

// makeSlot creates the slot, and reads what it keeps. Where slots cannot be read, one that exists is found out here.
func (l *link) makeSlot(ctx context.Context, src *Source, why SlotReason) error {
	_, err := l.query(ctx, "CREATE_REPLICATION_SLOT "+src.Slot.Name+" PHYSICAL RESERVE_WAL")
	switch {
	case hasCode(err, codeDuplicateObject):
		src.Slot.Exists = true
	case err != nil:
		return err
	default:
		src.Slot.Exists, src.Slot.Made = true, why
	}
	if canReadSlot(src.ServerVersion) {
		return l.readSlot(ctx, src)
	}
	// The position after the slot was made is one that it keeps.
	return l.identifySystem(ctx, src)
}

// dropSlot drops a slot; one that is not there is no error.
func (l *link) dropSlot(ctx context.Context, name string) error {
	_, err := l.query(ctx, "DROP_REPLICATION_SLOT "+name)
	switch {
	case hasCode(err, codeUndefinedObject):
		return nil
	case hasCode(err, codeObjectInUse):
		return nameTaken(name, serverMessage(err))
	}
	return err
}

// nameTaken is the refusal of a source on which somebody else uses our slot; the source's words tell its process.
func nameTaken(slot, words string) error {
	return refuse(NameTaken, "the slot %s is in use (it says: %s): another process streams under this node's id from the same "+
		"cluster; stop it, or give one of them another node.id", slot, words)
}

// firstPosition is where a timeline that holds nothing yet begins: at the start of the segment of the slot's restart LSN or,
// where that is not known, of the source's position; and on the source's TLI in any case, so not below the segment in
// which that began. Base backups count from there.
func firstPosition(src Source) pg.Position {
	lsn := src.Slot.RestartLSN
	if lsn == 0 {
		lsn = src.Flush
	}
	if fork, forked := src.History.Parent(); forked {
		lsn = max(lsn, fork.LSN)
	}
	return pg.Position{TLI: src.TLI, LSN: src.SegmentSize.StartOf(lsn)}
}
