// Package browsertest has the tests that drive Chromium: the agent's page, how it
// looks, and pages of attackers.
package browsertest
