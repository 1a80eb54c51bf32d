package main_test

import "testing"

func TestScriptPush(t *testing.T) { runScripts(t, "push") }
