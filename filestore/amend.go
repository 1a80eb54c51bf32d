package filestore

import (
	"errors"
	"time"
)

// Amend changes a group by what it holds: edit is given that, and what it
// returns is done. Nobody else changes the group in between, neither in this
// process nor in another: if somebody did, edit is called again with what is
// there then, so it must not do anything but decide. If it returns nil and no
// error, nothing is done; its error becomes that of Amend, as it is.
//
// Samples get the labels of the group and never an empty instance, whoever
// amends: programs that open the spool with other options write the same series.
//
// Otherwise the promise and the errors are those of Update, but for this: a
// refusal does not set the time of the group's last failure.
func (s *Store) Amend(g Group, edit func(held *Held) (*Edit, error)) error {
	start := time.Now()
	unlock := s.groups.lock(g.FileName())
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	var refused error // by edit
	change := s.changeOf(g)
	change.emptyInstance = false
	at, err := s.commit(g, true, func(old *content) (*content, error) {
		refused = nil
		if old == nil {
			if err := unreadable(s.fileOf(g)); err != nil {
				return nil, err
			}
		}
		e, err := edit(heldBy(old))
		switch {
		case err != nil:
			refused = err
			return nil, err
		case e == nil:
			return nil, errNothing
		}
		return change.amend(old, e)
	})
	var clash *Conflict
	var bad *SyntaxError
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, errNothing):
		return nil
	case errors.As(err, &clash), errors.As(err, &bad):
		return err
	case err != nil:
		return doing("storing group "+g.String(), err)
	}
	unlock()
	unlock = nil
	if err := s.flush(at); err != nil {
		return doing("storing group "+g.String(), err)
	}
	if s.observers.Commit != nil {
		s.observers.Commit(time.Since(start).Seconds())
	}
	return nil
}
