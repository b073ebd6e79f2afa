"""Good inputs of each text format, small, and what once made a reader crash or hang (`CASES`)."""

import gzip
import io
import zipfile

CHROMS = {"chr1": 3000, "chr2": 2000, "chr3": 2000, "chrM": 500}
# Bases that the variants below say are there, 0-based.
BASES = (("chr1", 10, "A"), ("chr1", 20, "AC"), ("chr2", 6, "AC"))

BED = (
    b"chr1\t10\t60\tone\t5\t+\nchr1\t100\t160\ttwo\t7\t-\nchr2\t5\t25\tthree\t0\t.\n",
    b"#chrom\tstart\tend\nchr1\t10\t60\nchr2\t100\t160\n",
    b"chrom start end\nchr1 10 60\nchr2 100 160\n",
    b"track name=x\nbrowser position chr1\nchr1\t0\t100\t.\t1e3\t+\t0\t100\t0\t2\t10,20,\t0,80,\n",
)
NARROW_PEAK = (
    b"chr1\t10\t60\tp1\t5\t.\t1.5\t2.5\t3.5\t20\nchr2\t100\t160\tp2\t9\t.\t7.5\t-1\t-1\t-1\n",
    b"1\t10\t60\tp1\t5\t+\t1.5\t2.5\t3.5\t20\n",
)
BED12 = (
    b"chr1\t10\t200\tt1\t0\t+\t10\t200\t0\t2\t40,50,\t0,140,\n"
    b"chr1\t300\t400\tt2\t0\t-\t300\t400\t0\t1\t100\t0\n",
)
GTF = (
    b'chr1\tx\tgene\t11\t60\t.\t+\t.\tgene_id "g1"; gene_name "A"; gene_biotype "protein_coding";\n'
    b'chr1\tx\ttranscript\t11\t60\t.\t+\t.\tgene_id "g1"; transcript_id "t1";\n'
    b'chr1\tx\texon\t11\t30\t.\t+\t.\tgene_id "g1"; transcript_id "t1";\n'
    b'chr1\tx\texon\t41\t60\t.\t+\t.\tgene_id "g1"; transcript_id "t1";\n',
    b'chr2\ty\texon\t5\t50\t.\t-\t0\tgene_id "g2"; transcript_id "t2";\n',
)
GFF3 = (
    b"##gff-version 3\nchr1\tx\tgene\t11\t60\t.\t+\t.\tID=g1;Name=A%20b;biotype=x\n"
    b"chr1\tx\tmRNA\t11\t60\t.\t+\t.\tID=t1;Parent=g1\n"
    b"chr1\tx\texon\t11\t30\t.\t+\t.\tID=e1;Parent=t1,t2\n>chr1\nACGT\n",
    b"chr2\ty\tgene\t5\t50\t.\t-\t0\tID=g2;Name=%FF%00\n",
)
VCF = (
    b'##fileformat=VCFv4.2\n##reference=file:///x.fa\n##contig=<ID=chr1,length=3000,assembly="a">\n'
    b'##INFO=<ID=AF,Number=A,Type=Float,Description="x">\n'
    b'##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
    b"chr1\t11\trs1\tA\tG,T\t.\tPASS\tAF=0.1,0.2\tGT\t0|1\t1|2\n"
    b"chr1\t21\t.\tAC\tA\t.\t.\tAF=0.5\tGT\t0/1\t./.\n"
    b"chr2\t7\t.\tA\t<DEL>,*\t.\t.\tX\tGT:DP\t0|0:3\t1|1:4\n",
    b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n1\t5\t.\tA\tC\t.\t.\t.\n",
)
VARIANTS_TSV = (
    b"chrom\tpos\tref\talt\tid\teffect\nchr1\t11\tA\tG\tv1\t0.5\nchr2\t7\tAC\t-\tv2\tNA\n",
    b"chr\tposition\treference\talternate\n1\t11\tA\tG\n2\t12\t-\tACG\n",
)
VARIANTS_CSV = (
    b'chrom,pos,ref,alt,id\nchr1,11,A,G,"a,b"\nchr2,7,T,C,v2\n',
    b"Chr,Pos,Ref,Alt\n1,11.0,a,g\n",
)
TRACKS = (
    b"id\tfile\tspecies\tassay\ttarget\tgroup\tstrand\tstrand_pair\tscale\tsum_stat\tclip\t"
    b"clip_mode\tuncovered\tweight\tdescription\n"
    b"a\ta.bw\tyeast\tATAC\t\t\t.\t\t1\tsum\t32\tsoft\tauto\t1\tx y\n"
    b"p\tp.bw\tyeast\tCAGE\t\t\t+\tm\t1\tsum\tinf\tnone\tzero\t0.5\t\n"
    b"m\tm.bw\tyeast\tCAGE\t\t\t-\tp\t-1\tmean\t5\thard\tbaseline\t2\t\n",
    b"index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tstrand_pair\tdescription\n"
    b"0\t0\tE1\te1.bw\t32\t2\tmean\t0\tDNASE:liver\n1\t0\tE2\te2.bw\t384\t1\tsum\t2\tCAGE:x, 2\n"
    b"2\t0\tE3\te3.bw\t384\t1\tsum\t1\tCHIP:H3K27ac:K562\n",
)
MEME = (
    b"MEME version 4\n\nALPHABET= ACGT\n\nMOTIF MA1 CTCF\nletter-probability matrix: alength= 4 "
    b"w= 2 nsites= 20 E= 0\n0.25 0.25 0.25 0.25\n0.7 0.1 0.1 0.1\n\nMOTIF MA2\nletter-probability "
    b"matrix: alength= 4 w= 1\n1 0 0 0\n",
    b">MA1 CTCF\n1 2 3 4\n5 6 7 8\n>MA2\n0.1 0.2 0.3 0.4\n",
    b">MA1 CTCF\nA [ 1 2 3 ]\nC [ 4 5 6 ]\nG [ 1 1 1 ]\nT [ 0 0 9 ]\n",
)
FASTA = (
    b">chr1 first\nACGTACGTACGT\nNNNNacgtACGT\nACG\n>chr2\nTTTT\n",
    b">a\r\nACGTRYKM\r\nAC\r\n",
)
FAI = (b"chr1\t27\t12\t12\t13\nchr2\t4\t48\t4\t5\n",)
LABELLED_FASTA = (
    b">chr1:0-8|1\nACGTACGT\n>chr1:1000-1008|0\nTTTTACGT\n>chr2:0-8(+)|1\nACGTACGA\n",
    b">x|chr1:1-8|0.5\nACGTACGT\n",
)
PEOPLE = (b"sample\tstatus\tage\tsex\ns1\t0\t40\tF\ns2\t1\t51\tM\ns3\tNA\t3\tF\n",)
COUNTS = (
    b"region_id\tcell1\tcell2\nchr1:10-60\t5\t7\nchr2:5-45\t0\t1.5\n",
    b"chrom,start,end,c1\nchr1,10,60,5\nchr2,5,45,NA\n",
)
EXPRESSION = (b"gene\tcell1\tcell2\nCTCF\t5\t7\nGATA1\t0\t1.5\n", b"gene,cell1,cell2\nCTCF,1e3,7\n")
FRAGMENTS = (b"chr1\t10\t60\tAAA-1\t2\nchr1\t70\t200\tAAC-1\t1\nchr2\t5\t45\tAAA-1\t1\n",)
TABLE = (
    b"seq,label,split\nACGTACGT,1,train\nTTTTACGA,0,test\n",
    b'id\tsequence\tlabel\na\tACGTACGT\t"x"\n',
)
BASENJI_BED = (b"chr1\t0\t100\ttrain\nchr1\t100\t200\tvalid\nchr2\t0\t100\ttest\n",)
QUERY = (
    b'assay == "ATAC" and not (weight < 1 or biosample ~ "(?i)k562")',
    b"group in ('DNase', \"ATAC\") or scale >= -1.5e3",
)
TARGET = (
    b'difference(assay == "ATAC", id == "p")[0:4]',
    b'log(mean(assay == "ATAC"))',
    b'bin(id == "p", 3)',
)
AVERAGING = (b"rc,shift", b"none")
STATISTICS = (
    b'{"num_targets": 3, "seq_length": 100, "pool_width": 10, "target_length": 8, "crop_bp": 10,'
    b' "train_seqs": 1, "valid_seqs": 1, "test_seqs": 1}',
)
VOCABULARY = (
    b'{"model": {"type": "BPE", "vocab": {"A": 0, "C": 1, "G": 2, "T": 3}, "merges": []},'
    b' "added_tokens": [{"content": "[CLS]", "id": 4}, {"content": "[SEP]", "id": 5},'
    b' {"content": "[UNK]", "id": 6}, {"content": "[PAD]", "id": 7}],'
    b' "post_processor": {"type": "BertProcessing"}}',
)
CARD = (
    b"schema_version: 2\nname: t\nkind: binary\ntarget: {names: [y], classes: [a, b]}\n"
    b"metric: {primary: auroc, secondary: [auprc]}\nsplit: random\nblock: example\nwindow: 8\n"
    b"files: [{role: row, name: x, bytes: 3, sha256: ab}]\nreport: {a: 1, b: x, c: 0.5}\n",
)

# A hundred million names if it were ever written out.
_LAUGHS = b"".join(
    b"x%d: &x%d [%s]\n" % (level, level, b", ".join([b"*x%d" % (level - 1)] * 10))
    for level in range(1, 9)
)
_YAML = (
    b"x0: &x0 [lol, lol]\n" + _LAUGHS,
    b"a: &a [*a]\n",
    b"a: " + b"[" * 700 + b"]" * 700 + b"\n",
    b"a: " + b"{a: " * 60 + b"1" + b"}" * 60 + b"\n",
    b"? [1, 2]\n: 3\n",
    b"2024-99-99: 1\n",
    b"a: 2024-99-99\n",
    b"a: !!python/object/apply:os.system [id]\n",
    b"a: !!int x\n",
    b"a: !!float x\n",
    b"a: !!binary \xc3\xa9\n",
    b"a: " + b"9" * 5000 + b"\n",
    b"a: 0b\n",
    b"a: 0x_\n",
    b"a: !!timestamp x\n",
    b"a: !!map x\n",
    b"<<: 3\n",
    b"1: 2\nnull: 3\ntrue: 4\n",
    b"a: 190:20:99e9\n",
    b'a: "\\ud83e"\n',
    b"- 1\n",
    b"",
    b"\x00",
)


def _array(header: bytes) -> bytes:
    """The head of an array in numpy's format."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def _archived(array: bytes) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("sd_T.npy", array)
    return found.getvalue()


CASES: dict[str, tuple[bytes, ...]] = {
    "BED12": (
        b"chr1\t10\t200\tt1\t0\t+\t10\t200\t0\t2\t40,\t0,140,\n",
        b"chr1\t10\t200\tt1\t0\t+\t10\t200\t0\t2\tx,y\t0,140\n",
        "chr1\t10\t200\tt1\t0\t+\t\u00b2\t200\t0\t2\t40,50,\t0,140,\n".encode(),
    ),
    "GTF": (
        'chr1\tx\tgene\t\u00b2\t60\t.\t+\t.\tgene_id "g1";\n'.encode(),
        b'chr1\tx\tgene\t11\t99999999999999999999\t.\t+\t.\tgene_id "g1";\n',
        b"chr1\tx\tgene\t11\t" + b"9" * 5000 + b'\t.\t+\t.\tgene_id "g1";\n',
    ),
    "GFF3": ("chr1\tx\texon\t1\t\u2460\t.\t+\t.\tParent=t1\n".encode(),),
    "people": (b"sample\tstatus\tsample\na\t1\tb\n", b"sample\tstatus\trow\na\t1\tb\n"),
    "variants tsv": (b"chrom\tpos\tref\talt\nchr1\t9223372036854775807\tA\tG\n",),
    "variants vcf": (
        gzip.compress(VCF[0], mtime=0),
        VCF[1].replace(b"REF", b"rEF"),
        VCF[1].replace(b"ALT", b"aLT"),
    ),
    "variants vcf, streamed": (VCF[0].replace(b"length=3000", b"length=" + b"9" * 5000),),
    "genotypes": (gzip.compress(VCF[0], mtime=0),),
    "haplotypes": (gzip.compress(VCF[0], mtime=0),),
    "track table": (
        "id\tfile\tspecies\tscale\na\ta.bw\t\u00b2\t1\n".encode(),
        b"id\tfile\tspecies\na\ta\x00.bw\tyeast\n",
        b'id\tfile\tspecies\n"' + b"a" * 140_000 + b'"\ta.bw\tyeast\n',
    ),
    "counts": (
        b"chrom,start,end,c1\nchr1,10,60,5\nNA,5,45,2\n",
        COUNTS[0].replace(b"region_id", b"*"),
        COUNTS[0].replace(b"region_id", b"^.*$"),
    ),
    "MEME and JASPAR": (MEME[0].replace(b"w= 2", b"w= " + b"9" * 5000),),
    "fragments": (b"chr1\t70\t200\tAAC-1\t1\n\t70\t200\tAAC-1\t1\n",),
    "labelled FASTA": (LABELLED_FASTA[0][:22] * 120 + b">chr1:0-8(+)|1\nACGTACGT\n",),
    "region store: constants.npz": (_archived(_array(b"{'descr': (\n")),),
    "sequence recipe": (b"genomes: {yeast: " + b"A" * 3000 + b"}\n",),
    "bench recipe": (b"suites: [" + b"A" * 3000 + b"]\n",),
    "task table": (b"seq,label\nACGT,1111111111111111111111111\nACGT,1e30\n",),
    "audited FASTA": (gzip.compress(FASTA[0], mtime=0)[:-9],),
    "2bit": tuple(
        bytes.fromhex(f"4327411a{version:08x}{count:08x}00000000") + name
        for version, count, name in ((2, 1, b""), (0, 0, b""), (0, 1 << 24, b"\x01\xff"))
    ),
    "variants bcf": (b"BCF\x02\x02\xff\xff\xff\x7f", b"", gzip.compress(b"BCF\x02\x02", mtime=0)),
    "variants run": (b'{"format": "cislens-variants", "settings": 1}', b"[" * 100_000),
    "FASTA": (b">\x8f\nACGT\n", b">a\x00\nACGT\n"),
    "FASTA index": (
        b"chr1\t27\t12\t12\t13\nchr1\t4\t48\t4\t5\n",
        b"chr1\t27\t12\t12\t" + b"9" * 30 + b"\n",
        b"chr\xd5\t27\t12\t12\t13\n",
        b"chr1\t27\t12\t12\t13\nchr2\r\t4\t48\t4\t5\n",
    ),
    "Basenji windows": ("chr1\t0\t\u2460\ttrain\n".encode(),),
    "track query": (
        b'id !~ "^(a+)+$"',
        b'id == "\xae"',
        b"not " * 1200 + b'id == "a"',
        b"(" * 1200 + b'id == "a"' + b")" * 1200,
        b'id ~ "' + b"(" * 1000 + b'"',
        b'id ~ "a{99999999999}"',
    ),
    "attribution target": (
        b"log(" * 1200 + b'mean(id == "p")' + b")" * 1200,
        b'mean(id == "p")[0:' + b"9" * 5000 + b"]",
    ),
    "profile store: manifest.json": (
        b'{"format": "cislens profile store", "schema_version": 1}',
        b'{"format": "cislens profile store", "schema_version": 1, "files": []}',
        b"[" * 100_000,
    ),
    "results: plan.json": (
        b'{"t": {"task_hash": "x", "arms": [], "seeds": 1}}',
        b'{"t": {"task_hash": "x", "arms": ["a"], "seeds": 1000000000}}',
        b'{"../t": {"task_hash": "x", "arms": ["a"], "seeds": 1}}',
        b'{"t": 3}',
        b'{"t": {"task_hash": "x", "arms": ["' + b"A" * 3000 + b'"], "seeds": 1}}',
    ),
    "results: frozen.json": (b"{}", b'{"config": 3}'),
    "region store: manifest.json": (b'{"format": "cislens region store", "schema_version": 1}',),
    "embeddings: manifest.json": (b"[" * 100_000,),
    "joint: cell-0.npy": (
        _array(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999)}\n"),
        _array(b"{'descr': ("),
        _array(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3)}\n") + bytes(24),
    ),
    "sequence store: manifest.json": (
        b'{"format": "cislens sequence store", "schema_version": 1, "files": "x"}',
    ),
    "task: task_hash": (b"\xc1",),
    "task: card.yaml": (
        CARD[0].replace(b"window: 8", b"window: " + b"1" * 25),
        CARD[0].replace(b"window: 8", b"window: 9223372036854775808"),
        CARD[0].replace(b"window: 8", b"window: 9223372036854775807"),
    ),
    "model: config.json": (
        b'{"model_type": {}}',
        b'{"format": "\\ud83e"}',
        b"\xff",
        b"[" * 100_000,
    ),
    "model: data.json": (
        b"\x87",
        b'{"length": "", "tracks": []}',
        b'{"length": 8, "tracks": [{"id": "a", "file": "x", "species": ["y"]}]}',
        b'{"length": 8, "tracks": [{"id": "a", "file": "x", "species": "y", "scale": "1"}]}',
        b'{"length": 8, "tracks": [3]}',
        b'{"length": 8, "tracks": [{"id": "\\ud83e", "file": "x", "species": "y"}]}',
    ),
    "vocabulary": (
        b'{"model": {"vocab": {"A": 0}}, "added_tokens": [{"id": 4}]}',
        b'{"model": {"vocab": {"A": 0}}, "added_tokens": true}',
        b'{"model": [], "added_tokens": []}',
        b'{"model": ' + b"[" * 100_000,
    ),
    "task card": _YAML,
}
