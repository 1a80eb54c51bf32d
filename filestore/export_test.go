package filestore

import (
	"context"
	"math"
	"testing"
)

// SetLoadChunk sets the number of files that a store loads at a time until the test ends.
func SetLoadChunk(t testing.TB, n int) {
	before := loadChunk
	loadChunk = n
	t.Cleanup(func() { loadChunk = before })
}

// SetHelpRate limits the rewrites for HELP texts, at once and per second, until the test
// ends.
func SetHelpRate(t testing.TB, burst, perSecond int) {
	beforeBurst, beforeRate := helpBurst, helpRate
	helpBurst, helpRate = float64(burst), float64(perSecond)
	t.Cleanup(func() { helpBurst, helpRate = beforeBurst, beforeRate })
}

// AlignSome is AlignHelp for up to n files, without a rate.
func AlignSome(s *Store, n int) error {
	s.findMisfits()
	_, err := s.rewriteHelp(context.Background(), s.misfits.take(n))
	return err
}

// SettleHelp is AlignHelp for all files that differ, without a rate.
func SettleHelp(s *Store) error {
	for s.findMisfits(); !s.misfits.isEmpty(); s.findMisfits() {
		if err := AlignSome(s, math.MaxInt); err != nil {
			return err
		}
	}
	return nil
}
