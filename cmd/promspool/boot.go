package main

import (
	"os"
	"strings"
)

// bootID tells one boot of the host from another. It is empty where the kernel
// has no such thing.
func (c *common) bootID() string {
	if c.boot != "" {
		return c.boot
	}
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
