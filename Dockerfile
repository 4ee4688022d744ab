# syntax=docker/dockerfile:1
# Two images from one file: `hapi` (the FHIR store) and `hilum` (web, dimse, worker).
# Not built by the project's CI, which has no Docker engine.

FROM maven:3.9-eclipse-temurin-17 AS java
WORKDIR /build
COPY hapi/ hapi/
RUN mvn --batch-mode --quiet -f hapi/pom.xml package

FROM python:3.11-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /opt/hilum
COPY requirements.txt ./
RUN pip install --quiet -r requirements.txt
COPY . .
RUN pip install --quiet --no-deps -e . \
 && useradd --system --uid 10001 --create-home hilum \
 && mkdir /data && chown hilum /data
VOLUME /data

FROM python AS hapi
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/*
COPY --from=java /build/hapi/target hapi/target
USER hilum
CMD ["hilum", "hapi"]

FROM node:22-bookworm-slim AS viewer
WORKDIR /ohif
RUN npm pack --silent @ohif/app@3.13.2

FROM python AS hilum
COPY --from=viewer /ohif/*.tgz /tmp/
RUN python tools/ohif.py --out build/ohif --tarball /tmp/*.tgz && rm /tmp/*.tgz
USER hilum
CMD ["hilum", "web"]
