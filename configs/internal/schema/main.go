// Command schema writes the JSON schema of a service declaration beside the package that makes it.
package main

import (
	"fmt"
	"os"

	"github.com/refitml/refit/configs"
)

func main() {
	schema, err := configs.Schema()
	if err == nil {
		err = os.WriteFile("service.schema.json", schema, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "write the schema:", err)
		os.Exit(1)
	}
}
