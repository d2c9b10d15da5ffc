# One line a target; what has logic lives in xtask (cargo xtask --help).
X = @scripts/bootstrap && scripts/env cargo xtask

run: ; $(X) run
test: ; $(X) ci
build: ; $(X) build
bench: ; $(X) bench
soak: ; $(X) soak
images: ; $(X) images
e2e: ; $(X) e2e
e2e-kind: ; $(X) e2e --kind
fmt: ; @scripts/env cargo fmt --all
lint: ; $(X) ci --only fmt,lint,tidy
doc: ; $(X) ci --only doc
build-all: build
test-all: test

.PHONY: run test build bench soak images e2e e2e-kind fmt lint doc build-all test-all
