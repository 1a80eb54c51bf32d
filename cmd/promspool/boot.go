package main

import "github.com/promspool/promspool/cmd/promspool/internal/jobrun"

// bootID tells one boot of the host from another. It is empty where the kernel
// has no such thing.
func (c *common) bootID() string {
	if c.boot != "" {
		return c.boot
	}
	return jobrun.BootID()
}
