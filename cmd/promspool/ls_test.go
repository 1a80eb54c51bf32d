package main_test

import "testing"

func TestScriptLs(t *testing.T) { runScripts(t, "ls") }
