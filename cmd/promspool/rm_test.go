package main_test

import "testing"

func TestScriptRm(t *testing.T) { runScripts(t, "rm") }
