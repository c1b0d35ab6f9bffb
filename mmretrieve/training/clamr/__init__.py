"""Training of joint encoders (CLaMR, arXiv 2506.06144). Needs the extra ``clamr``.

``settings``, ``rows`` and ``plan`` import no PyTorch; everything else does.
"""
