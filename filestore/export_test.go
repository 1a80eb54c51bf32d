package filestore

import (
	"context"
	"math"
	"testing"
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

// AlignSome is AlignHelp for up to n files, at once.
func AlignSome(s *Store, n int) error {
	s.findMisfits()
	_, err := s.rewriteHelp(context.Background(), s.misfits.take(n))
	return err
}

// SettleHelp is AlignHelp for all files that differ, at once.
func SettleHelp(s *Store) error {
	for s.findMisfits(); !s.misfits.isEmpty(); s.findMisfits() {
		if err := AlignSome(s, math.MaxInt); err != nil {
			return err
		}
	}
	return nil
}
