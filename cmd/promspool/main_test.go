package main_test

import (
	"os"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestMain(m *testing.M) { os.Exit(agenttest.Main(m)) }
