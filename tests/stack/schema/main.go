// Reads dashboards by Grafana's own schema, as its typed library has it: a field that is unknown or lacking, a wrong type and a
// value that is not allowed are each an error.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	wrong := 0
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			wrong++
		}
	}
	fmt.Printf("%d read, %d wrong\n", len(os.Args)-1, wrong)
	if wrong > 0 {
		os.Exit(1)
	}
}

func check(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var found dashboard.Dashboard
	if err := found.UnmarshalJSONStrict(content); told(err) {
		return err
	}
	if err := found.Validate(); told(err) {
		return err
	}
	return nil
}

// The library's list of errors may be an empty one.
func told(err error) bool {
	var list cog.BuildErrors
	return err != nil && !(errors.As(err, &list) && len(list) == 0)
}
