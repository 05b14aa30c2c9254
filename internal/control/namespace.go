package control

import (
	"context"
	"errors"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// EnsureSearchAttributes adds what of Refit's search attributes a namespace lacks, and returns when the server
// lists them all. Where it may not, or one has another type, it is Refused and names what a person has to add.
func EnsureSearchAttributes(ctx context.Context, temporal client.Client, namespace string) error {
	missing, err := missingAttributes(ctx, temporal, namespace)
	if err != nil || len(missing) == 0 {
		return err
	}
	add := map[string]enums.IndexedValueType{}
	for _, name := range missing {
		add[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	_, err = temporal.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: namespace, SearchAttributes: add,
	})
	var there *serviceerror.AlreadyExists // another worker was faster
	if err != nil && !errors.As(err, &there) {
		return lifecycle.Errorf(lifecycle.Refused, "add search attributes %v (type Keyword) to namespace %s: %w", missing, namespace, err)
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		if missing, err = missingAttributes(ctx, temporal, namespace); err != nil || len(missing) == 0 {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return lifecycle.Errorf(lifecycle.Unavailable, "namespace %s does not list its new search attributes yet: %w", namespace, ctx.Err())
		}
	}
}

func missingAttributes(ctx context.Context, temporal client.Client, namespace string) ([]string, error) {
	have, err := temporal.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	var denied *serviceerror.PermissionDenied
	if errors.As(err, &denied) {
		return nil, lifecycle.Errorf(lifecycle.Refused, "list the search attributes of namespace %s: %w", namespace, err)
	}
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "list the search attributes of namespace %s: %w", namespace, err)
	}
	var missing []string
	for _, name := range []string{steps.AttributeService, steps.AttributeRelease, steps.AttributePhase, steps.AttributeLoop} {
		switch have.GetCustomAttributes()[name] {
		case enums.INDEXED_VALUE_TYPE_KEYWORD:
		case enums.INDEXED_VALUE_TYPE_UNSPECIFIED:
			missing = append(missing, name)
		default:
			return nil, lifecycle.Errorf(lifecycle.Refused, "search attribute %s of namespace %s is not of type Keyword", name, namespace)
		}
	}
	return missing, nil
}

// CheckNamespace asks Temporal for the namespace: Unavailable while there is no answer, NotFound where there is no
// such namespace.
func CheckNamespace(ctx context.Context, temporal client.Client, namespace string) error {
	_, err := temporal.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	var missing *serviceerror.NamespaceNotFound
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return lifecycle.Errorf(lifecycle.NotFound, "temporal.namespace: Temporal has no namespace %s; make it, or set another", namespace)
	default:
		return lifecycle.Errorf(lifecycle.Unavailable, "ask Temporal for namespace %s: %w", namespace, err)
	}
}
