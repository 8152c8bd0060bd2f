"""The signature of a request to S3, against the one that Amazon's documentation works out."""

from __future__ import annotations

from libs.model_fetch.signing import Credentials, quoted, signed

DOCUMENTED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def test_a_request_is_signed_as_amazons_own_example() -> None:
    headers = signed(
        host="examplebucket.s3.amazonaws.com",
        path="/test.txt",
        headers={"Range": "bytes=0-9"},
        credentials=DOCUMENTED,
        region="us-east-1",
        at="20130524T000000Z",
    )

    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_a_session_token_is_sent_and_signed() -> None:
    temporary = Credentials(DOCUMENTED.access_key_id, DOCUMENTED.secret_access_key, "token")

    headers = signed(host="s3", path="/b/k", headers={}, credentials=temporary, region="eu-1", at="20130524T000000Z")

    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_a_path_keeps_its_slashes_and_hides_the_rest() -> None:
    assert quoted("/b/a+b c~.txt") == "/b/a%2Bb%20c~.txt"
