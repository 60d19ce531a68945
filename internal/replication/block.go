package replication

import (
	"sync"

	"github.com/sluicewal/sluice/internal/pg"
)

// blockLen divides the size of every segment, so that no block leaves its segment.
const blockLen = 1 << 20

// block is memory for WAL. A byte lies in it where its LSN says, so that what is written from it is aligned as a disk wants it.
type block struct {
	mem   *[blockLen]byte
	start pg.LSN // of mem[0]
}

// blocks is the memory of streams that are not idle. Go aligns what is so large to pages.
var blocks = sync.Pool{New: func() any { return new([blockLen]byte) }}

func takeBlock(lsn pg.LSN) *block {
	b := &block{mem: blocks.Get().(*[blockLen]byte)}
	b.move(lsn)
	return b
}

// move makes it the block that lsn lies in.
func (b *block) move(lsn pg.LSN) { b.start = lsn - lsn%blockLen }

// from is the memory from lsn on.
func (b *block) from(lsn pg.LSN) []byte { return b.mem[lsn-b.start:] }

// between is the memory of what lies between two positions, of which the second may be the block's end.
func (b *block) between(from, to pg.LSN) []byte { return b.mem[from-b.start : to-b.start] }

func (b *block) release() {
	blocks.Put(b.mem)
	b.mem = nil
}
