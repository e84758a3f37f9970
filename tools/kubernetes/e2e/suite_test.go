// Package suite is the part of the Kubernetes e2e suite that judges a network: sig-network's tests, and what the suite itself needs
// to run them. The whole suite is some twenty times as much to compile.
package suite

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"

	"k8s.io/component-base/version"
	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	"k8s.io/kubernetes/test/e2e/reporters"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// The tests: NetworkPolicy comes with the rest of the network.
	_ "k8s.io/kubernetes/test/e2e/network"

	// What the suite says of a test that fails.
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"
)

func TestMain(m *testing.M) {
	versionWanted := flag.Bool("version", false, "say the version of Kubernetes")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if *versionWanted {
		fmt.Println(version.Get())
		os.Exit(0)
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	progress = reporters.NewProgressReporter(framework.TestContext.ProgressReportURL)
	os.Exit(m.Run())
}

// Each test is told to --progress-report-url as it ends.
var progress *reporters.ProgressReporter

var _ = ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
	progress.ProcessSpecReport(report)
})

func TestE2E(t *testing.T) {
	e2e.RunE2ETests(t)
}
