# One image for all six services, the twin and the command line: the command names which.
FROM python:3.11-slim AS build
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/millrace \
    && /opt/millrace/bin/pip install --no-cache-dir --require-hashes --requirement constraints.txt
COPY pyproject.toml README.md ./
COPY libs libs
COPY services services
RUN /opt/millrace/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home millrace && mkdir /var/lib/millrace && chown millrace /var/lib/millrace
COPY --from=build /opt/millrace /opt/millrace
COPY deploy/catalogue /etc/millrace/catalogue
ENV PATH=/opt/millrace/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/millrace
ENTRYPOINT ["python", "-m"]
CMD ["services.endpoint_api"]
