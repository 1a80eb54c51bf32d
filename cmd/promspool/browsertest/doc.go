// Package browsertest contains the tests that need Chromium: the agent's page, its
// appearance, and the pages of attackers.
package browsertest
