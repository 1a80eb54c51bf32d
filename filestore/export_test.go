package filestore

import "testing"

// SetLoadChunk fills stores with that many files at a time until the test ends.
func SetLoadChunk(t testing.TB, n int) {
	before := loadChunk
	loadChunk = n
	t.Cleanup(func() { loadChunk = before })
}
