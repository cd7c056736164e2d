# Nothing but the program: no shell, no git, no package of a distribution. Certificate
# authorities are in the binary. `make image` builds it from what `make build` has made,
# with the date of the commit, so that the same commit gives the same image.
FROM scratch
ARG VERSION COMMIT DATE
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/sluice-dev/sluice" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${DATE}"
COPY sluice sluice.spdx.json /
# Nobody; the root file system may be read-only, /tmp has to be mounted.
USER 65532:65532
ENTRYPOINT ["/sluice"]
