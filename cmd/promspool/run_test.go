package main_test

import "testing"

func TestScriptRun(t *testing.T) { runScripts(t, "run") }
