package wal

import "unsafe"

// directAlign is what O_DIRECT wants of offsets, lengths and addresses. Disks with smaller sectors would do with less; one that
// wants more says EINVAL, and gets ordinary writes.
const directAlign = 4096

// WriteDirect implements File. A page that the bytes share with others goes through the page cache, as in WriteAt: direct
// writes are of whole pages, in which nothing else is.
func (f *file) WriteDirect(p []byte, off int64) (int, error) {
	head, body := alignedPart(p, off)
	if len(body) == 0 || !f.direct.usable(f.File) {
		return f.WriteAt(p, off)
	}
	if n, err := f.WriteAt(p[:head], off); err != nil {
		return n, err
	}
	n, err := f.direct.writeAt(body, off+int64(head))
	if n += head; err != nil || n == len(p) {
		return n, err
	}
	rest, err := f.WriteAt(p[n:], off+int64(n)) // the last page, or everything if direct writes are refused
	return n + rest, err
}

// alignedPart returns the whole pages of p, and how many bytes come before; none if p and off are not aligned alike.
func alignedPart(p []byte, off int64) (head int, body []byte) {
	head = int(-off & (directAlign - 1))
	if head >= len(p) || uintptr(unsafe.Pointer(&p[head]))%directAlign != 0 {
		return 0, nil
	}
	whole := (len(p) - head) &^ (directAlign - 1)
	return head, p[head : head+whole]
}
