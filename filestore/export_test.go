package filestore

import (
	"context"
	"testing"

	"github.com/promspool/promspool/filestore/grouping"
)

// SetLoadChunk fills stores with that many files at a time until the test ends.
func SetLoadChunk(t testing.TB, n int) {
	before := loadChunk
	loadChunk = n
	t.Cleanup(func() { loadChunk = before })
}

// SetHelpRate bounds the files that are rewritten for their HELP texts, at once and
// per second, until the test ends.
func SetHelpRate(t testing.TB, burst, perSecond int) {
	beforeBurst, beforeRate := helpBurst, helpRate
	helpBurst, helpRate = float64(burst), float64(perSecond)
	t.Cleanup(func() { helpBurst, helpRate = beforeBurst, beforeRate })
}

// AlignSome is SettleHelp for up to n files.
func AlignSome(s *Store, n int) error {
	left, failed := map[string][]grouping.Key{}, map[string]struct{}{}
	s.findMisfits(left)
	_, err := s.rewriteHelp(context.Background(), left, n, failed)
	for name := range left {
		failed[name] = struct{}{}
	}
	s.markHelp(failed)
	return err
}
