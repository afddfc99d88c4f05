"""Keys whose private half everybody can read, by RFC 7638 thumbprint (fact 43).

They end in real clusters by copy and paste from a standard or a tutorial. The list is short on purpose: only keys
that the test vectors of public libraries quote from the named source; the thumbprints were computed from those.
"""

from mirror.model import Thumbprint

KNOWN_TEST_KEYS: dict[Thumbprint, str] = {
    Thumbprint("IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8"): "RFC 7515, appendix A.2",
    Thumbprint("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"): "RFC 7515, appendix A.3",
    Thumbprint("u5YUSjQ2-2chBi51NSk3t3g7IM4o2KYcnPqPtCNGd3U"): "RFC 7515, appendix A.4",
    Thumbprint("xtIsOV1FqKH77AI_A3jdTg5QfdabzqI-LNpYTPi0IgI"): "RFC 7516, appendix A.1",
    Thumbprint("_K0fXS8wlsT7Tn3vvZrs9qdKUIqi5AxQ5EVk41xi_BM"): "RFC 7516, appendix A.2",
    Thumbprint("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"): "RFC 7517, appendix A.1",
    Thumbprint("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"): "RFC 7517, appendix A.1, and RFC 7638, section 3.1",
    Thumbprint("DdsFv-2-wgcPoDcyS6OXOWVh00JdbWkkVXDCYdxJ3uM"): "RFC 7517, appendix B",
    Thumbprint("D8R4-FeTJfzuDUy8bZ0c4hcwpul-Q11gCPs3mw6-R9Q"): "RFC 7517, appendix C.1",
    Thumbprint("dHri3SADZkrush5HU_50AoRhcKFryN-PI6jPBtPL55M"): "RFC 7520, section 3.1",
    Thumbprint("9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"): "RFC 7520, section 3.3",
    Thumbprint("h_jutvC-jg3Nwueq8LmdSybXykVsBwk4_5u5Y9JiS7E"): "RFC 7520, section 5.1",
    Thumbprint("Rt-IyDEhXohvTl_ozKQ9YGflXGuDb3uu3QmqN2LoMwM"): "RFC 7520, section 5.2",
    Thumbprint("YlKlB7M2wnS0cPn_V7OW-FuDLuWdJ9z4OvPHmhGDfeE"): "RFC 7520, section 5.4",
    Thumbprint("HsSFalww3yP-dO-lWGYgFcyV5H22oScIFc4V2Y6GOto"): "RFC 7520, section 5.5",
    Thumbprint("_GK0r6GCoJt9zcssg9lay4obIxgCq05ntiRymRHADSU"): "RFC 7518, appendix C (Alice)",
    Thumbprint("Vy57XrArUrW0NbpI12tEzDHABxMwrTh6HHXRenSpnCo"): "RFC 7518, appendix C (Bob)",
    Thumbprint("DOvxvJiAdIqVWIkFt5hDtCunXLF0BV4-JGv4f-ALSm0"): "RFC 6979, appendix A.2.5",
    Thumbprint("xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M"): "the base point of P-256: the private key is 1",
    Thumbprint("-W6Wzot_wuerYbKBVKfGEks3iY2EALna-hBqObnPuJE"): "the base point of P-384: the private key is 1",
    Thumbprint("OeKGf9VndDjYwHKRd0dpgdELFndZEEkXwdriDA_fITE"): "the base point of P-521: the private key is 1",
    Thumbprint("oGDmHqCJ7yzMkWEkrlZVHkvrHIyQwtlDmeq5ForUHeY"): "the RS256 example of jwt.io",
    Thumbprint("19J8y7Zprt2-QKLjF2I5pVk0OELX6cY2AfaAv1LC_w8"): "the ES256 example of jwt.io",
    Thumbprint("iTqXXI0zbAnJCKDaobfhkM1f-6rMSpTfyZMRp_2tKI8"): "the ES384 example of jwt.io",
    Thumbprint("xZDfZpry4P9vZPZyG2fNBRj-7Lz5omVdm7tHoCgSNfY"): "the ES512 example of jwt.io",
}
"""Where each private key is public."""
