package main_test

import "testing"

func TestScriptExplain(t *testing.T) { runScripts(t, "explain") }
