// Package torture tests the guarantees of the agent under conditions that no other
// test has: power cuts, kills, a full or broken disk, two processes that write the
// same group, hostile clients. It contains tests only. They drive the real program
// over HTTP.
//
// # Guarantees
//
// A 2xx means that the change is on stable storage: it survives a kill and a power
// cut at any later instant. Every reader of the spool finds complete files, each of
// one version. A change that is not acknowledged is complete or absent. A failure of
// the host loses no group's content and is reported as a 5xx with a message. Pushes
// to one group are ordered, and a POST loses nothing of another. No client input
// makes the agent's memory grow without bound.
//
// # Method
//
// Every version of a group has a recognizable content: a number of lines, each with
// the version as its value and a fingerprint. This shows lost, outdated, torn, mixed
// or invented states. A history records requests and acknowledgements, and it must
// allow the end state.
//
// For power cuts the file system is on a disk that keeps a log: a file that the test
// serves through FUSE, under a loop device. The log has every write and flush in
// order, so the disk can be rebuilt as after a power cut at any instant: everything
// flushed, and of the writes after the last flush none, all or any part. Half of the
// cuts are at the instant of an acknowledgement. A missing flush shows there, while
// later the flush of another request hides it.
//
// # Control tests
//
// An overlay at build time, which leaves the product's code unchanged, makes agents
// with one fault each: no flush of files, none of directories, a retried flush, a
// file written in place. The corresponding test must fail. The check of a history is
// itself tested with wrong histories.
//
// # Short and long form
//
// The environment variable PROMSPOOL_TORTURE is "short" (under three minutes),
// "long" ("make torture", about half an hour) or "off". Without it "go test ./..."
// skips these tests, and "make test-all" runs the short form. Each run uses other
// instants; PROMSPOOL_TORTURE_SEED repeats the choices of a run.
//
// Tests without root, a loop device or a program that they need are skipped with the
// reason. With PROMSPOOL_TEST_NO_SKIP=1 they fail.
package torture
