// Package torture proves the promises of the agent under conditions that no
// other test makes: the power fails, the process is killed, the disk is full or
// broken, two processes write the same group, clients are hostile. It has tests
// only, and they drive the real program over HTTP.
//
// # What is promised
//
// A 2xx means that the change is on stable storage: it survives a kill, and a
// power cut at any later instant. Whoever reads the spool finds whole files,
// each of one version. What is not acknowledged is whole or absent. A failure
// of the host costs no group its content and is told as a 5xx with a sentence.
// Pushes to one group have an order, and a POST loses nothing of another.
// Nothing that a client sends makes the agent grow without bounds.
//
// # How it is proved
//
// Every version of a group has a content that can be recognized: so many lines,
// each with the version as its value and with a fingerprint. So a lost, older,
// torn, mixed or invented state shows. What was asked and acknowledged is kept
// as a history, and the end state has to be one that the history allows.
//
// For the power cut the file system stands on a disk that remembers: a file
// served by the test through FUSE, under a loop device. Each write and each
// flush is logged in order, so that the disk can be made again as a power cut
// would have left it at any instant: all that was flushed, and of what was
// written after the last flush nothing, everything, or any part. Half of the
// cuts are at the very instant of an acknowledgement, since a flush that is
// missing shows there; later somebody else's flush covers for it.
//
// # How the tests prove that they can fail
//
// A source overlay at build time, which leaves the product's code alone, makes
// agents with one fault each: no flush of files, none of directories, a failed
// flush that is tried again, a file written in place. The test that should
// notice has to. What judges a history is itself tried on histories that are
// wrong.
//
// # Short and long
//
// The environment variable PROMSPOOL_TORTURE is "short" (under three minutes),
// "long" ("make torture", about half an hour) or "off". Without it "go test ./..."
// leaves the torture out, and where all tests run, as with "make test-all", it is
// short. The short form can be repeated for as long as one likes: every run takes
// other instants, and PROMSPOOL_TORTURE_SEED repeats the choices of one.
//
// What needs root, a loop device or a program that is missing is skipped with
// the reason; with PROMSPOOL_TEST_NO_SKIP=1 that is a failure.
package torture
