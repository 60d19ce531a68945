// Package rig is the bench of the tests that drive Sluice from outside: real
// processes of the real binary, disks that fill up and lose power, and
// PostgreSQL's own tools beside them. Nothing in it knows how Sluice works
// inside; it goes by what the README promises: the verbs, the HTTP routes, the
// configuration, the directory of segments.
//
// What is promised: whatever a rig starts, mounts or writes is gone after the
// test that asked for it, also when that test failed. If the test process itself
// is killed, the kernel ends its children, and the next test that makes a disk
// unmounts what is left.
package rig
