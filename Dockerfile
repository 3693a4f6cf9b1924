# SPDX-License-Identifier: Apache-2.0
#
# One image for the agent and what people ask it with. `npm run image` makes build/image/ARCH and builds this from there;
# nothing is compiled here.

# By tag, because the digest of a base image is only known to who has pulled it: a release names it,
# --build-arg BASE=docker.io/library/debian:bookworm-slim@sha256:…
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}

# Debian as it was at this time (https://snapshot.debian.org), so that the same sources make the same image. Empty: as it is now.
ARG DEBIAN_SNAPSHOT=
ARG SOURCE_DATE_EPOCH=0

# bird2: routes by BGP. libstdc++6: flatnetd is linked with it. nftables: for people, who want to see the rules; flatnetd has no need of it.
RUN set -eu; \
    if [ -n "${DEBIAN_SNAPSHOT}" ]; then \
      rm -f /etc/apt/sources.list.d/*; \
      for suite in bookworm bookworm-updates; do \
        echo "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian/${DEBIAN_SNAPSHOT} ${suite} main"; \
      done > /etc/apt/sources.list; \
      echo "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian-security/${DEBIAN_SNAPSHOT} bookworm-security main" \
        >> /etc/apt/sources.list; \
    fi; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update; \
    apt-get install --yes --no-install-recommends bird2 libstdc++6 nftables; \
    dpkg-query --show --showformat='${Package} ${Version} ${Architecture}\n' > /usr/local/share/flatnet-packages.txt; \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /tmp/* /run/*

COPY flatnet flatnetd /usr/local/bin/
COPY sbom.spdx.json /usr/local/share/flatnet.spdx.json
# It refers to these two for the C library that is linked into the plugin.
COPY licenses.txt /usr/local/share/flatnet-licenses.txt
RUN test -s /usr/share/doc/libc6/copyright && test -s /usr/share/common-licenses/LGPL-2.1
# Each program has a second name.
RUN ln -s flatnet /usr/local/bin/flatnet-ipam && ln -s flatnetd /usr/local/bin/flatnetctl

CMD ["/usr/local/bin/flatnetd", "--help"]
