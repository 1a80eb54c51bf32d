package browsertest

import (
	"os"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestMain(m *testing.M) { os.Exit(agenttest.MainForAll(m, "the tests that drive Chromium")) }
